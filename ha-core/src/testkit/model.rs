//! A node that had nothing, and what effects leave behind on it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::distribution::{Distribution, ServiceState};
use crate::effect::Effect;
use crate::profile::SipTimers;
use crate::role::Role;

/// The files, blocks and settings of a PBX that effects change; commands leave nothing in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) files: BTreeMap<String, String>,
    blocks: BTreeMap<(String, Option<String>), Vec<String>>,
    variables: BTreeMap<(String, String), String>,
    expiry: Option<SipTimers>,
    registrars: Option<IpAddr>,
}

impl Model {
    /// A new machine: no pair, and telephony runs.
    pub(super) fn serving(distribution: &dyn Distribution) -> Model {
        Model::default().after(&distribution.set_services(ServiceState::Running, Role::Disabled))
    }

    pub(super) fn after(mut self, effects: &[Effect]) -> Model {
        for effect in effects {
            match effect {
                Effect::WriteFile { path, content, .. } => {
                    self.files.insert(path.clone(), content.clone());
                }
                Effect::RemoveFile { path } => {
                    self.files.remove(path);
                }
                Effect::SetBlocks { blocks, .. } => {
                    for block in blocks {
                        let place = (block.path.clone(), block.section.clone());
                        if block.lines.is_empty() {
                            self.blocks.remove(&place);
                        } else {
                            self.blocks.insert(place, block.lines.clone());
                        }
                    }
                }
                Effect::SetVariables { path, variables } => {
                    for (name, value) in variables {
                        let place = (path.clone(), name.clone());
                        self.variables.insert(place, value.clone());
                    }
                }
                Effect::SipExpiry(timers) => self.expiry = *timers,
                Effect::BackupRegistrars(address) => self.registrars = *address,
                Effect::Run(_) | Effect::RunUnless { .. } | Effect::SynchronizeDevices => {}
            }
        }
        self
    }
}
