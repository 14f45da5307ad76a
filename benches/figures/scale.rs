/// How much there is to replicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale {
    /// Each has [`Scale::MESSAGES`] messages of two files.
    pub(crate) mailboxes: u32,
    /// Big files.
    pub(crate) sounds: u32,
    /// Of each big file. Bytes.
    pub(crate) sound_size: usize,
    /// Of the PBX; every table grows with them.
    pub(crate) users: u32,
}

impl Scale {
    /// In a mailbox.
    pub(crate) const MESSAGES: u32 = 20;
    /// Of a message: what it is, and what was said.
    const FILES_EACH: u32 = 2;

    /// What the figures are promised for: 100,000 small files, 12 big ones, 5,000 users.
    pub(crate) const FULL: Scale =
        Scale { mailboxes: 2500, sounds: 12, sound_size: 10 * 1024 * 1024, users: 5000 };

    /// Enough to show that everything works, in a minute.
    pub(crate) const SMALL: Scale = Scale { mailboxes: 10, sounds: 2, sound_size: 1024 * 1024, users: 100 };

    /// The same with so many small files.
    pub(crate) fn with_files(self, files: u32) -> Scale {
        Scale { mailboxes: files / (Scale::MESSAGES * Scale::FILES_EACH), ..self }
    }

    /// Small files.
    pub(crate) fn files(self) -> u32 {
        self.mailboxes * Scale::MESSAGES * Scale::FILES_EACH
    }
}
