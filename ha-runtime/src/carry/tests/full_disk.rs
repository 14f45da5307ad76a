//! The serving node's disk is full.

use super::*;

#[test]
#[ignore = "runs on the small disk of a_full_disk_costs_no_message"]
fn fill_the_disk() {
    let mut failed = 0;
    for pages in 0.. {
        let pair = Pair::parted();
        crate::small_disk::fill(pages * 4096);
        let done = pair.carry();
        crate::small_disk::make_room();
        let heard = pair.theirs.heard();
        assert!(
            [10, 11, 30].iter().all(|said| heard.values().any(|other| other == said)),
            "{pages} pages: {heard:?}"
        );
        assert!(
            files(&pair.theirs.dir.join("vm")).iter().all(|name| !name.ends_with("/.lock")),
            "{pages} pages"
        );
        pair.carry().unwrap();
        assert_eq!(pair.theirs.heard(), Pair::carried(), "{pages} pages, {done:?}");
        match done {
            Ok(_) => break,
            Err(_) => failed += 1,
        }
    }
    assert!(failed > 5, "the disk was never full: {failed}");
}

#[test]
fn a_full_disk_costs_no_message() {
    crate::small_disk::run_there("carry::tests::full_disk::fill_the_disk");
}
