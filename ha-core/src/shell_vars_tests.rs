use proptest::prelude::*;

use super::*;

fn value(text: &str, name: &str) -> Option<String> {
    ShellVars::parse(text).unwrap().value(name).unwrap().map(str::to_owned)
}

fn refusal(text: &str) -> String {
    match ShellVars::parse(text).and_then(|vars| vars.value("KEY").map(|value| format!("{value:?}"))) {
        Ok(value) => panic!("{text:?} is taken for {value}"),
        Err(refusal) => refusal.to_string(),
    }
}

fn set(text: &str, wanted: &[(&str, &str)]) -> String {
    ShellVars::parse(text).unwrap().set(wanted).unwrap()
}

#[test]
fn a_value_is_what_a_shell_takes_it_for() {
    for (text, wanted) in [
        ("KEY=value", "value"),
        ("KEY=value\r\n", "value"),
        ("  export KEY=value  # why\n", "value"),
        ("KEY=", ""),
        ("KEY= # nothing yet", ""),
        ("KEY=\"two words\"", "two words"),
        ("KEY='$(date); `x`' # as it is", "$(date); `x`"),
        ("KEY=a#b*?[c]{d}=e!", "a#b*?[c]{d}=e!"),
        ("KEY=first\nKEY=last\n#KEY=comment\nOTHER=KEY=x", "last"),
    ] {
        assert_eq!(value(text, "KEY").as_deref(), Some(wanted), "{text:?}");
    }
    assert_eq!(value("# KEY=value\n\nKEYS=1\nAKEY=2\n", "KEY"), None);
}

#[test]
fn what_a_shell_would_evaluate_is_refused_with_its_line() {
    for (text, says) in [
        ("\nKEY=$(reboot)", "line 2: KEY=$(reboot): a shell would evaluate it"),
        ("KEY=`reboot`", "line 1: KEY=`reboot`: a shell would evaluate it, ` or $( )"),
        ("KEY=$HOME/x", "line 1: KEY=$HOME/x: a shell would evaluate"),
        ("KEY=\"$HOME\"", "line 1: KEY=$HOME: a shell would evaluate"),
        ("KEY=\"$(reboot)\"", "line 1: KEY=\"$(reboot)\": a shell would evaluate it"),
        // where these end is another line's affair
        ("A=`\nKEY=value\n`", "line 1: A=`: a shell would evaluate it"),
        ("A=\"$(\"\nKEY=value\n\")\"", "line 1: A=\"$(\": a shell would evaluate it"),
        ("A=${B\nKEY=value", "line 1: A=${B: a shell would evaluate it"),
        ("KEY=a\\b", "line 1: KEY=a\\b: a shell would evaluate"),
        ("KEY=~/x", "line 1: KEY=~/x: a shell would evaluate"),
        ("KEY=two words", "line 1: KEY=two words: a shell would run"),
        ("KEY= value", "line 1: KEY= value: a shell would run"),
        ("KEY=a;reboot", "line 1: KEY=a;reboot: a shell would run"),
        ("KEY=a OTHER=b", "line 1: KEY=a OTHER=b: a shell would run"),
        ("KEY=a#b c", "line 1: KEY=a#b c: a shell would run"),
        ("KEY=\"a\"b", "line 1: KEY=\"a\"b: goes on behind its quotes"),
        ("KEY=a\"b\"", "line 1: KEY=a\"b\": has quotes within"),
        ("KEY=\"a", "line 1: KEY=\"a: goes on in the next line"),
        ("KEY=a\\\nb", "line 1: KEY=a\\: goes on in the next line"),
        ("KEY=a\u{7}b", "line 1: KEY=a\u{fffd}b: holds a control character"),
        ("KEY=#x", "line 1: KEY=#x: is no comment for a shell"),
        ("KEY = value", "line 1: KEY = value: a shell would run this: write KEY=value"),
        ("\u{feff}KEY=value", "line 1: \u{feff}KEY=value: a shell would run this"),
        ("1KEY=value", "line 1: 1KEY=value: a shell would run this"),
        // what could set the variable behind our back
        ("if true; then", "line 1: if true; then: a shell would run this"),
        ("A=\"\nKEY=value\n\"", "line 1: A=\": goes on in the next line"),
        ("A=1; KEY=value", "line 1: A=1; KEY=value: a shell would run"),
    ] {
        let refusal = refusal(text);
        assert!(refusal.starts_with(says), "{text:?}\n-> {refusal}");
    }
}

#[test]
fn the_value_of_a_variable_that_nobody_asks_for_is_the_shells_affair() {
    assert_eq!(value("A=$HOME/x\nB=\"$USER\"\nC='`$(date)'\nKEY=value", "KEY").as_deref(), Some("value"));
}

#[test]
fn what_is_in_force_is_set_and_everything_else_stays() {
    let text = "# ours\r\nKEY=old\r\n KEY=\"\" # in force\r\n\r\nA=$x";
    assert_eq!(set(text, &[("KEY", "new")]), "# ours\r\nKEY=old\r\n KEY=\"new\" # in force\r\n\r\nA=$x");
    assert_eq!(
        set(text, &[("B", "1"), ("KEY", "2"), ("C", "")]),
        text.replace("\"\"", "\"2\"") + "\r\nB=1\r\nC=\r\n"
    );
    assert_eq!(set("", &[("KEY", "v")]), "KEY=v\n");
    assert_eq!(set("KEY= # why\n", &[("KEY", "v")]), "KEY=v # why\n");
    assert_eq!(set("KEY=v\n", &[]), "KEY=v\n");
}

#[test]
fn a_value_that_a_shell_would_evaluate_is_not_set() {
    let vars = ShellVars::parse("A=1\nKEY='x'\n").unwrap();
    for value in ["$(reboot)", "a b", "a\nB=c", "'", "\"", "`x`", "~root", "a;b", "#"] {
        let refusal = vars.set(&[("KEY", value)]).unwrap_err();
        assert_eq!(refusal.line, 2, "{refusal}");
        assert_eq!(vars.set(&[("NEW", value)]).unwrap_err().line, 3);
    }
}

/// Lines as people and programs leave them, whole and broken.
fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("KEY=".to_owned()),
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        "[ \t#\"'$`\\\\;=a-z]{0,6}",
        any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Lines that a shell takes as written.
fn good_text() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just(String::new()),
        "#[ -~]{0,12}",
        "[A-C]=[a-z0-9./]{0,6}",
        " (export )?[A-C]=\"[a-z ]{0,6}\"( +#[a-z]*)?",
        "[A-C]='[ -&(-~]{0,6}'",
    ];
    let end = prop_oneof![Just("\n"), Just("\r\n")];
    (proptest::collection::vec((line, end), 0..8), any::<bool>()).prop_map(|(lines, ended)| {
        let text: String = lines.iter().map(|(line, end)| format!("{line}{end}")).collect();
        if ended { text } else { text.trim_end_matches(['\r', '\n']).to_owned() }
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any_text()) {
        if let Ok(vars) = ShellVars::parse(&text) {
            let _ = vars.value("KEY");
            if let Ok(set) = vars.set(&[("KEY", "v")]) {
                prop_assert_eq!(ShellVars::parse(&set).unwrap().value("KEY"), Ok(Some("v")));
            }
        }
    }

    #[test]
    fn what_is_set_is_read_back_and_nothing_else_changes(
        text in good_text(),
        values in proptest::collection::btree_map("[A-D]", "[a-z0-9.:/-]{0,8}", 0..4),
    ) {
        let wanted: Vec<(&str, &str)> = values.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let once = set(&text, &wanted);
        prop_assert_eq!(&set(&once, &wanted), &once, "a second time");
        for name in ["A", "B", "C", "D"] {
            let before = value(&text, name);
            let after = value(&once, name);
            prop_assert_eq!(after, values.get(name).cloned().or(before));
        }
        let (old, new): (Vec<&str>, Vec<&str>) = (text.lines().collect(), once.lines().collect());
        prop_assert!(new.len() >= old.len());
        let changed = old.iter().zip(&new).filter(|(old, new)| old != new).count();
        prop_assert!(changed <= wanted.len(), "{} lines changed for {}", changed, wanted.len());
        prop_assert_eq!(new.len() - old.len(), wanted.iter().filter(|(name, _)| value(&text, name).is_none()).count());
    }
}
