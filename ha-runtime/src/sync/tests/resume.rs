//! A large content that was cut goes on where it was cut, and is never taken for what it is not.

use ha_core::replication::manifest::Meta;
use ha_core::replication::path::RelPath;
use ha_core::replication::wire::{Action, Content, Frame, Transaction};

use super::guards::converse_with;
use super::*;

const SIZE: usize = 6_000_000;
/// What has come before the cut: more than an agent writes without listing it.
const PART: usize = 4_000_000;

/// No two blocks alike.
fn noise(seed: u32, size: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// What a file of the source has beside its content.
fn meta_of(pair: &Pair, name: &str) -> Meta {
    let file = fs::File::open(pair.near(name)).unwrap();
    super::super::scan::meta_of(&file, &super::super::meta::stat_fd(&file).unwrap()).unwrap()
}

fn begin() -> [Frame; 2] {
    [Frame::Hello(hello()), Frame::Begin { generation: GENERATION }]
}

fn file(pair: &Pair, size: usize) -> Frame {
    let path = RelPath::new("large").unwrap();
    Frame::File { generation: GENERATION, dataset: 0, path, size: size as u64, meta: meta_of(pair, "large") }
}

fn data(bytes: &[u8]) -> Vec<Frame> {
    bytes.chunks(200_000).map(|bytes| Frame::Data { generation: GENERATION, bytes: bytes.to_vec() }).collect()
}

fn resume(length: usize) -> Frame {
    Frame::Resume { generation: GENERATION, length: length as u64 }
}

fn end(content: &[u8]) -> Frame {
    Frame::FileEnd { generation: GENERATION, digest: *blake3::hash(content).as_bytes() }
}

/// Has the far end receive these first bytes of the source's file, and no more.
fn cut_after(pair: &Pair, bytes: &[u8]) {
    let node = pair.node(Box::new(|_| passive_slave()));
    converse_with(&node, &[begin().to_vec(), vec![file(pair, SIZE)], data(bytes)].concat());
}

/// What the far end says that waits.
fn kept(pair: &Pair) -> Vec<Content> {
    let node = pair.node(Box::new(|_| passive_slave()));
    let said = converse_with(&node, &[begin().as_slice(), &[Frame::AskKept]].concat());
    let Some(Frame::Kept { contents, last: true }) = said.last() else { panic!("{said:?}") };
    contents.clone()
}

fn cut_pair(content: &[u8]) -> Pair {
    let pair = Pair::new();
    write(pair.near("large"), content);
    cut_after(&pair, &content[..PART]);
    pair
}

#[test]
fn a_large_content_that_was_cut_goes_on_where_it_was_cut() {
    let content = noise(1, SIZE);
    let pair = cut_pair(&content);
    assert_eq!(kept(&pair).iter().map(|one| one.part).collect::<Vec<_>>(), [Some(PART as u64)]);
    assert!(!pair.far("large").exists(), "nothing is in force");
    let report = pair.push().unwrap();
    pair.assert_equal();
    assert_eq!((report.resumed, report.sent, report.patched), (1, 0, 0));
    assert!(report.bytes_sent < (SIZE - PART + 2_000) as u64, "{report:?}");
    assert_eq!(pair.push().unwrap().changed, 0);
}

#[test]
fn a_full_comparison_goes_on_behind_a_part_and_believes_no_whole_content() {
    let content = noise(1, SIZE);
    let pair = cut_pair(&content);
    write(pair.near("small"), "right");
    let full = PushOptions { compare: Compare::Full, ..PushOptions::default() };
    let node = pair.node(Box::new(|_| passive_slave()));
    // of the same size and time, as if the source had changed in between
    let (path, meta) = (RelPath::new("small").unwrap(), meta_of(&pair, "small"));
    let small = Frame::File { generation: GENERATION, dataset: 0, path, size: 5, meta };
    converse_with(&node, &[begin().to_vec(), vec![small], data(b"wrong"), vec![end(b"wrong")]].concat());
    assert_eq!(kept(&pair).len(), 2);
    let report = pair.push_with(Box::new(|_| passive_slave()), &full).unwrap();
    pair.assert_equal();
    assert_eq!((report.resumed, report.sent), (1, 1));
    assert_eq!(fs::read_to_string(pair.far("small")).unwrap(), "right");
}

#[test]
fn the_rest_of_a_large_content_comes_as_the_blocks_that_changed() {
    let content = noise(1, SIZE);
    let pair = Pair::new();
    write(pair.near("large"), &content);
    pair.push().unwrap();
    let other = [noise(2, PART), content[PART..].to_vec(), b"and a tail".to_vec()].concat();
    write(pair.near("large"), &other);
    let node = pair.node(Box::new(|_| passive_slave()));
    let part = [begin().to_vec(), vec![file(&pair, other.len())], data(&other[..PART])].concat();
    converse_with(&node, &part);
    let report = pair.push().unwrap();
    pair.assert_equal();
    assert_eq!((report.resumed, report.sent, report.patched), (1, 0, 0));
    assert!(report.bytes_sent < 20_000, "{report:?}");
}

#[test]
fn a_part_of_what_the_source_has_no_more_is_not_used() {
    let pair = cut_pair(&noise(1, SIZE));
    write(pair.near("large"), noise(2, SIZE));
    let report = pair.push().unwrap();
    pair.assert_equal();
    assert_eq!((report.resumed, report.sent), (0, 1));
}

#[test]
fn a_part_that_is_not_the_beginning_of_the_content_is_noticed_and_the_whole_file_sent() {
    let pair = cut_pair(&noise(1, SIZE));
    let time = fs::metadata(pair.near("large")).unwrap().modified().unwrap();
    // same size, same time
    write(pair.near("large"), noise(2, SIZE));
    fs::File::options().write(true).open(pair.near("large")).unwrap().set_modified(time).unwrap();
    let report = pair.push().unwrap();
    pair.assert_equal();
    assert_eq!((report.resumed, report.sent), (0, 1));
}

#[test]
fn a_part_outlasts_a_replication_of_tables_alone() {
    let content = noise(1, SIZE);
    let pair = cut_pair(&content);
    let mut node = pair.node(Box::new(|_| passive_slave()));
    node.fate = Ok(Fate::Committed);
    let generation = GENERATION;
    let transaction = Transaction { server: 77, id: 1234 };
    let tables =
        [Frame::Prepare { generation }, Frame::Arm { generation, transaction }, Frame::Commit { generation }];
    let said = converse_with(&node, &[begin().as_slice(), &tables].concat());
    assert!(matches!(said.last(), Some(Frame::Committed(_))), "{said:?}");
    assert_eq!(pair.push().unwrap().resumed, 1);
    pair.assert_equal();
}

#[test]
fn a_part_that_somebody_else_put_there_is_not_believed() {
    let content = noise(1, SIZE);
    let pair = cut_pair(&content);
    let part = names_below(&pair.far("")).into_iter().find(|name| name.ends_with("/1")).expect("it waits");
    let aside = pair.dir.path().join("aside");
    fs::rename(&part, &aside).unwrap();
    fs::write(&part, &content[..PART]).unwrap();
    assert_eq!(kept(&pair), []);
    assert_eq!(pair.push().unwrap().resumed, 0);
    pair.assert_equal();
}

#[test]
fn what_lies_behind_the_bytes_that_are_gone_on_from_is_not_kept() {
    let content = noise(1, SIZE);
    let pair = cut_pair(&content);
    let node = pair.node(Box::new(|_| passive_slave()));
    let (generation, path) = (GENERATION, RelPath::new("large").unwrap());
    let shorter = &content[..2_000_003];
    let step = Frame::Step { generation, dataset: 0, action: Action::Place { path } };
    let said = converse_with(
        &node,
        &[
            begin().to_vec(),
            vec![file(&pair, shorter.len()), resume(2_000_000)],
            data(&shorter[2_000_000..]),
            vec![end(shorter), step, Frame::Prepare { generation }, Frame::Commit { generation }],
        ]
        .concat(),
    );
    assert!(matches!(said.last(), Some(Frame::Committed(_))), "{said:?}");
    assert_eq!(fs::read(pair.far("large")).unwrap(), shorter);
}

#[test]
fn nothing_is_gone_on_from_that_is_not_there() {
    let content = noise(1, SIZE);
    let some = data(&content[..100]).remove(0);
    let begun = |pair: &Pair| file(pair, SIZE);
    type Say = Box<dyn Fn(&Pair) -> Vec<Frame>>;
    let cases: [(&str, Say); 6] = [
        ("more than there is", Box::new(move |pair| vec![begun(pair), resume(PART + 1)])),
        ("more than the file is to have", Box::new(|pair| vec![file(pair, 100), resume(200)])),
        ("nothing", Box::new(move |pair| vec![begun(pair), resume(0)])),
        ("behind other bytes", Box::new(move |pair| vec![begun(pair), some.clone(), resume(PART)])),
        ("twice", Box::new(move |pair| vec![begun(pair), resume(PART), resume(PART)])),
        ("of no file", Box::new(|_| vec![resume(PART)])),
    ];
    for (what, say) in cases {
        let pair = cut_pair(&content);
        let node = pair.node(Box::new(|_| passive_slave()));
        let said = converse_with(&node, &[begin().to_vec(), say(&pair)].concat());
        assert!(matches!(said.last(), Some(Frame::Error { .. })), "{what}: {said:?}");
        assert_eq!(names_below(&pair.far("")), Vec::<String>::new(), "{what}: nothing is left");
        pair.push().unwrap();
        pair.assert_equal();
    }
}

#[test]
fn a_part_of_a_content_that_comes_whole_after_all_does_not_wait_any_more() {
    let pair = cut_pair(&noise(1, SIZE));
    let node = pair.node(Box::new(|_| passive_slave()));
    converse_with(&node, &[begin().to_vec(), vec![file(&pair, 3)], data(b"abc"), vec![end(b"abc")]].concat());
    assert_eq!(kept(&pair).iter().map(|one| (one.size, one.part)).collect::<Vec<_>>(), [(3, None)]);
    let files = names_below(&pair.far("")).into_iter().filter(|name| Path::new(name).is_file()).count();
    assert_eq!(files, 1, "the part is gone");
}
