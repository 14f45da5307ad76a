use proptest::prelude::*;

use super::*;

fn between(xivo: [&str; 2], cc: [&str; 2]) -> EnvFile {
    let sides = |[master, slave]: [&str; 2]| Sides {
        master: master.parse().expect("an address"),
        slave: slave.parse().expect("an address"),
    };
    let variable = |name, sides, is_list| Variable { name, sides, is_list };
    let (xivo, cc) = (sides(xivo), sides(cc));
    let variables = vec![
        variable("XIVO_HOST", xivo, false),
        variable("XIVOCC_HOST", cc, false),
        variable("TURN_ALLOWED_PEERS", xivo, true),
        variable("XIVO_MDS_HOST_DEFAULT", xivo, true),
    ];
    EnvFile { variables }
}

fn edge() -> EnvFile {
    between(["10.0.0.1", "10.0.0.2"], ["10.0.0.21", "10.0.0.22"])
}

/// A file of four plain variables.
fn file(xivo: &str, cc: &str, peers: &str, mds: &str) -> String {
    format!("XIVO_HOST={xivo}\nXIVOCC_HOST={cc}\nTURN_ALLOWED_PEERS={peers}\nXIVO_MDS_HOST_DEFAULT={mds}\n")
}

/// A file of which only the peers matter.
fn peers(peers: &str) -> String {
    file("10.0.0.1", "10.0.0.21", peers, "10.0.0.1")
}

fn switched(before: &str, side: Side) -> String {
    edge().pointed_at(before, side).unwrap()
}

#[test]
fn a_file_is_switched_there_and_back() {
    let master = file("10.0.0.1", "10.0.0.21", "10.0.0.1", "10.0.0.1");
    let slave = file("10.0.0.2", "10.0.0.22", "10.0.0.2", "10.0.0.2");
    assert_eq!(switched(&master, Side::Slave), slave);
    assert_eq!(switched(&slave, Side::Slave), slave);
    assert_eq!(switched(&slave, Side::Master), master);
    assert_eq!(edge().points_at(&slave).unwrap().side, Some(Side::Slave));
}

#[test]
fn a_dot_is_a_dot_and_an_address_is_no_prefix_of_another() {
    let list = |own: &str| peers(&format!("10.0.0.15,110.0.0.1,{own},10a0b0c1,10.0.0.1.5"));
    assert_eq!(switched(&list("10.0.0.1"), Side::Slave).lines().nth(2), list("10.0.0.2").lines().nth(2));
}

#[test]
fn machines_that_share_addresses_do_not_chain() {
    let one_host = between(["10.0.0.1", "10.0.0.2"], ["10.0.0.1", "10.0.0.2"]);
    let master = file("10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.1");
    let slave = file("10.0.0.2", "10.0.0.2", "10.0.0.2", "10.0.0.2");
    assert_eq!(one_host.pointed_at(&master, Side::Slave).unwrap(), slave);
    let swapped = between(["10.0.0.1", "10.0.0.2"], ["10.0.0.2", "10.0.0.1"]);
    let master = file("10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.1");
    let slave = file("10.0.0.2", "10.0.0.1", "10.0.0.2", "10.0.0.2");
    assert_eq!(swapped.pointed_at(&master, Side::Slave).unwrap(), slave);
    assert_eq!(swapped.pointed_at(&slave, Side::Master).unwrap(), master);
}

#[test]
fn a_file_that_was_changed_by_half_is_healed() {
    let half = file("10.0.0.1", "10.0.0.22", "10.0.0.2", "10.0.0.1");
    assert_eq!(edge().points_at(&half).unwrap().side, None);
    assert_eq!(switched(&half, Side::Slave), file("10.0.0.2", "10.0.0.22", "10.0.0.2", "10.0.0.2"));
    assert_eq!(switched(&half, Side::Master), file("10.0.0.1", "10.0.0.21", "10.0.0.1", "10.0.0.1"));
}

#[test]
fn nothing_but_the_addresses_of_the_four_variables_is_touched() {
    let text = |xivo: &str, cc: &str| {
        format!(
            "\u{feff}# XIVO_HOST=10.0.0.1\r\n#XIVO_HOST=10.0.0.1\n  export\tXIVO_HOST = \"{xivo}\"  # was 10.0.0.1\r\n\
             XIVO_HOST_OLD=10.0.0.1\nSECRET='a\nXIVO_HOST=10.0.0.1\n'\n\nXIVOCC_HOST: '{cc}'\n\
             TURN_ALLOWED_PEERS={xivo}; 10.0.0.1-10.0.0.5,10.0.0.1/24 10.0.0.3,{xivo} #10.0.0.1\n\
             IT=it's \"quoted\nXIVO_MDS_HOST_DEFAULT={xivo}:5060\nXIVO_HOST={xivo}"
        )
    };
    let (master, slave) = (text("10.0.0.1", "10.0.0.21"), text("10.0.0.2", "10.0.0.22"));
    assert_eq!(switched(&master, Side::Slave), slave);
    assert_eq!(switched(&slave, Side::Master), master);
    let names: Vec<String> =
        edge().points_at(&master).unwrap().variables.into_iter().map(|(name, ..)| name).collect();
    let once = ["XIVO_HOST", "XIVOCC_HOST", "TURN_ALLOWED_PEERS", "XIVO_MDS_HOST_DEFAULT", "XIVO_HOST"];
    assert_eq!(names, once);
}

#[test]
fn a_list_that_allows_both_sides_stays() {
    let both = |xivo: &str, cc: &str| file(xivo, cc, "10.0.0.2,10.0.0.1", xivo);
    let (master, slave) = (both("10.0.0.1", "10.0.0.21"), both("10.0.0.2", "10.0.0.22"));
    assert_eq!(switched(&master, Side::Slave), slave);
    assert_eq!(edge().points_at(&slave).unwrap().side, Some(Side::Slave));
}

#[test]
fn ipv6_is_compared_as_an_address_and_written_in_its_short_form() {
    let v6 = between(["2001:db8::1", "2001:db8::2"], ["10.0.0.21", "2001:db8::22"]);
    let before =
        file("2001:DB8:0::1", "http://10.0.0.21:8090/x", "2001:db8::1 2001:db8::1:2", "[2001:db8::1]:5060");
    let after = file(
        "2001:db8::2",
        "http://[2001:db8::22]:8090/x",
        "2001:db8::2 2001:db8::1:2",
        "[2001:db8::2]:5060",
    );
    assert_eq!(v6.pointed_at(&before, Side::Slave).unwrap(), after);
    assert_eq!(v6.pointed_at(&before, Side::Master).unwrap(), before, "what is right is not written anew");
    let mapped = file("::ffff:10.0.0.1", "10.0.0.21", "10.0.0.1", "10.0.0.1");
    assert_eq!(edge().points_at(&mapped).unwrap().side, Some(Side::Master));
}

#[test]
fn a_variable_that_is_missing_is_named() {
    let error = edge().pointed_at("XIVO_HOST=10.0.0.1\n#XIVOCC_HOST=10.0.0.21\n", Side::Slave).unwrap_err();
    assert!(error.0.starts_with("XIVOCC_HOST, TURN_ALLOWED_PEERS, XIVO_MDS_HOST_DEFAULT: not in"), "{error}");
    assert_eq!(
        edge().points_at("XIVO_HOST=10.0.0.1\n").unwrap_err(),
        edge().points_at("XIVO_HOST=").unwrap_err()
    );
}

#[test]
fn a_message_shows_of_another_machines_value_neither_controls_nor_further_lines_nor_all_of_a_long_one() {
    for (value, shown) in [
        ("\"\u{1b}]0;owned\u{7}\"", "\u{fffd}]0;owned\u{fffd}"),
        ("\"10.0.0.3\nSECRET=sesame\"", "10.0.0.3…"),
        (&"x".repeat(500_000), &format!("{}…", "x".repeat(80))),
    ] {
        let text = file(value, "10.0.0.21", "10.0.0.1", "10.0.0.1");
        let error = edge().pointed_at(&text, Side::Slave).unwrap_err().0;
        assert!(error.starts_with(&format!("XIVO_HOST=\"{shown}\" names neither side")), "{error:?}");
    }
}

#[test]
fn a_value_that_names_neither_side_is_named_with_what_would_be_right() {
    for value in
        ["", "pbx.example.org", "10.0.0.3", "10.0.0.1/32", "10.0.0.1,10.0.0.2", "010.0.0.1", "10.0.0.1#x"]
    {
        let text = file(value, "10.0.0.21", "10.0.0.1", "10.0.0.1");
        assert_eq!(edge().points_at(&text).unwrap().side, None, "{value}");
        assert_eq!(
            edge().pointed_at(&text, Side::Slave).unwrap_err().0,
            format!(
                "XIVO_HOST=\"{value}\" names neither side: right is 10.0.0.1 (master) or 10.0.0.2 (slave)"
            )
        );
    }
    let beyond = file("\"10.0.0.1\"5", "10.0.0.21", "10.0.0.1", "10.0.0.1");
    assert!(edge().pointed_at(&beyond, Side::Slave).is_err());
}

/// A line, and when an address of the contact centre (or of XiVO) follows: what is behind it.
type Line = (String, Option<(bool, String)>);

/// A file with gaps where the addresses stand.
#[derive(Debug, Clone)]
struct Template {
    lines: Vec<Line>,
    end: &'static str,
    ends: bool,
}

impl Template {
    fn filled(&self, mut side: impl FnMut(usize) -> Side) -> String {
        let line = |(index, (before, gap)): (usize, &Line)| match gap {
            None => before.clone(),
            Some((is_cc, behind)) => {
                let sides = edge().variables[usize::from(*is_cc)].sides;
                format!("{before}{}{behind}", sides.of(side(index)))
            }
        };
        let lines: Vec<String> = self.lines.iter().enumerate().map(line).collect();
        lines.join(self.end) + if self.ends { self.end } else { "" }
    }
}

fn templates() -> impl Strategy<Value = Template> {
    let other = prop_oneof![
        Just("# XIVO_HOST=10.0.0.1".to_owned()),
        Just("XIVO_HOSTS=10.0.0.1".to_owned()),
        Just("MOTD=\"several\nXIVO_HOST=10.0.0.1 \\\" lines\"".to_owned()),
        "[A-Z]{0,4}=?[ -!#-&(-~\u{e9}]{0,20}",
    ]
    .prop_map(|line| (line, None));
    let own = (0..4_usize, any::<[bool; 3]>()).prop_map(|(which, [export, quote, list])| {
        let variable = edge().variables[which];
        let (before, behind) =
            if variable.is_list && list { ("10.0.0.15 ", ",10.0.0.1-10.0.0.9;x") } else { ("", "") };
        let (export, quote) = (if export { " export " } else { "" }, if quote { "\"" } else { "" });
        let line = format!("{export}{} = {quote}{before}", variable.name);
        (line, Some((variable.name == "XIVOCC_HOST", format!("{behind}{quote} # 10.0.0.1"))))
    });
    let plain = |Variable { name, .. }| (format!("{name}="), Some((name == "XIVOCC_HOST", String::new())));
    let lines = proptest::collection::vec(prop_oneof![other, own], 0..12).prop_map(move |mut lines| {
        lines.extend(edge().variables.into_iter().map(plain));
        lines
    });
    (lines.prop_shuffle(), prop_oneof![Just("\n"), Just("\r\n")], any::<bool>())
        .prop_map(|(lines, end, ends)| Template { lines, end, ends })
}

proptest! {
    #[test]
    fn of_any_file_only_the_addresses_change_from_wherever_they_point(
        template in templates(),
        points in proptest::collection::vec(any::<bool>(), 16),
        to_slave in any::<bool>(),
    ) {
        let side = |slave: bool| if slave { Side::Slave } else { Side::Master };
        let before = template.filled(|index| side(points[index]));
        let wanted = template.filled(|_| side(to_slave));
        prop_assert_eq!(&switched(&before, side(to_slave)), &wanted);
        prop_assert_eq!(&switched(&wanted, side(to_slave)), &wanted);
        prop_assert_eq!(edge().points_at(&wanted).unwrap().side, Some(side(to_slave)));
    }
}
