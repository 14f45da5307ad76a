//! Every situation has one row, every row a situation.

use super::*;

/// The last three bits and the former verdict mean nothing where each node has its own address.
fn every_situation(mut visit: impl FnMut(Situation)) {
    let surroundings =
        [Surroundings::NotWatched, Surroundings::Seen, Surroundings::Asking, Surroundings::Silent];
    let verdicts = || Verdict::ALL.into_iter().flat_map(|from| Verdict::ALL.map(|to| (from, to)));
    for (role, address) in Role::ALL.into_iter().flat_map(|role| Address::ALL.map(|one| (role, one))) {
        for (from, to) in verdicts() {
            let (most, surroundings) = match address {
                Address::Own => (1 << 8, &surroundings[..]),
                Address::Unknown | Address::Held | Address::Elsewhere => (1 << 11, &surroundings[1..2]),
            };
            for (surroundings, bits) in surroundings.iter().flat_map(|one| (0..most).map(move |n| (one, n))) {
                let bit = |n: u32| bits & (1 << n) != 0;
                visit(Situation {
                    role,
                    address,
                    active: bit(0),
                    from,
                    to,
                    surroundings: *surroundings,
                    maintenance: bit(1),
                    settled: bit(2),
                    peer_yielded: bit(3),
                    latched: bit(4),
                    permitted: bit(5),
                    hold_down: bit(6),
                    held: bit(7),
                    died: bit(8),
                    refused: bit(9),
                    restarts: bit(10),
                });
            }
        }
    }
}

#[test]
fn every_situation_has_exactly_one_row() {
    every_situation(|situation| {
        let rows: Vec<&str> =
            RULES.iter().filter(|rule| rule.matches(&situation)).map(|rule| rule.id).collect();
        assert_eq!(rows.len(), 1, "{situation:?} matches {rows:?}");
    });
}

#[test]
fn every_row_has_a_situation_and_an_id_of_its_own() {
    let mut seen = std::collections::BTreeSet::new();
    every_situation(|situation| {
        seen.insert(rule(&situation).id);
    });
    let ids: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(seen.len(), ids.len(), "unreachable or doubled rows: {ids:?} but {seen:?}");
}

#[test]
fn with_addresses_of_their_own_only_a_slave_stops_and_a_disabled_node_does_nothing() {
    for rule in RULES {
        if rule.services == Move::Want(ServiceState::Stopped) && rule.address.contains(&Address::Own) {
            assert_eq!(rule.roles, [Role::Slave], "{}", rule.id);
        }
        if rule.roles == [Role::Disabled] {
            assert_eq!(rule.services, Move::Keep, "{}", rule.id);
        }
    }
}

#[test]
fn a_latch_never_stands_in_the_way_of_a_takeover() {
    every_situation(|situation| {
        if situation.latched && situation.to == Verdict::Down && situation.role == Role::Slave {
            let without = Situation { latched: false, ..situation };
            assert_eq!(rule(&situation).id, rule(&without).id);
        }
    });
}

#[test]
fn telephony_follows_a_shared_address() {
    every_situation(|situation| {
        let row = rule(&situation);
        if !situation.address.is_shared() || situation.role == Role::Disabled {
            assert_ne!(row.services, Move::HandOver, "{situation:?}");
            return;
        }
        let is_heard = matches!(situation.to, Verdict::Up | Verdict::Degraded);
        match row.services {
            Move::Want(ServiceState::Running) => {
                assert_eq!(situation.address, Address::Held, "{situation:?}")
            }
            Move::Want(ServiceState::Stopped) => {
                assert_eq!(situation.address, Address::Elsewhere, "{situation:?}")
            }
            Move::HandOver => {
                assert!(situation.address == Address::Held && is_heard, "{situation:?}");
                assert!(!situation.refused, "asked again too early: {situation:?}");
            }
            Move::Keep => assert!(
                situation.maintenance || situation.address == Address::Unknown || row.id == "X18",
                "{situation:?}"
            ),
        }
        // nothing but death takes the address from a node whose failback waits for somebody
        if row.services == Move::HandOver && !situation.died {
            assert_eq!(situation.role, Role::Slave);
            assert!(!situation.latched && !situation.peer_yielded && situation.permitted, "{situation:?}");
        }
    });
}

#[test]
fn the_readme_shows_this_table() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let text = test_files::read(readme);
    let (begin, end) = ("<!-- transition table: begin -->\n", "<!-- transition table: end -->");
    let (head, rest) = text.split_once(begin).expect("README.md has the begin mark");
    let (_, tail) = rest.split_once(end).expect("README.md has the end mark");
    let wanted = format!("{head}{begin}{}{end}{tail}", markdown());
    if text != wanted {
        test_files::write(readme, &wanted);
        panic!("README.md showed another table; it has been rewritten: review the difference");
    }
}

/// The table's copy in the README is a file; the core itself touches none.
#[allow(clippy::disallowed_methods)] // a test, not the core
mod test_files {
    pub(super) fn read(path: &str) -> String {
        std::fs::read_to_string(path).expect("README.md is there")
    }
    pub(super) fn write(path: &str, text: &str) {
        std::fs::write(path, text).expect("README.md can be written");
    }
}
