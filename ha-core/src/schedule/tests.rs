//! Stories first, then every minute of a week compared with the model.

use chrono_tz::{Europe, Tz};
use proptest::prelude::*;

use super::model;
use super::*;

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn runs(schedule: &str, zone: Tz, from: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::parse(schedule).unwrap();
    let mut wall = at(from);
    (0..count)
        .map(|_| {
            wall = schedule.next_after(wall, &zone).unwrap();
            wall.with_timezone(&zone).format("%a %d %H:%M %Z").to_string()
        })
        .collect()
}

#[test]
fn zero_and_seven_are_sunday_and_one_is_monday() {
    for sunday in ["0", "7", "sun", "SUN"] {
        assert_eq!(
            runs(&format!("0 12 * * {sunday}"), Tz::UTC, "2026-11-20T00:00:00Z", 2),
            ["Sun 22 12:00 UTC", "Sun 29 12:00 UTC"]
        );
    }
    assert_eq!(runs("0 12 * * 1", Tz::UTC, "2026-11-20T00:00:00Z", 1), ["Mon 23 12:00 UTC"]);
    assert_eq!(
        runs("0 0 * * 5-7", Tz::UTC, "2026-11-20T00:00:00Z", 3),
        ["Sat 21 00:00 UTC", "Sun 22 00:00 UTC", "Fri 27 00:00 UTC"]
    );
}

#[test]
fn two_restricted_days_mean_either_and_a_star_means_both() {
    assert_eq!(
        runs("0 0 24 * mon", Tz::UTC, "2026-11-20T00:00:00Z", 3),
        ["Mon 23 00:00 UTC", "Tue 24 00:00 UTC", "Mon 30 00:00 UTC"]
    );
    // every other day of the month, and of those the Mondays
    assert_eq!(
        runs("0 0 */2 * mon", Tz::UTC, "2026-11-01T00:00:00Z", 2),
        ["Mon 09 00:00 UTC", "Mon 23 00:00 UTC"]
    );
}

#[test]
fn a_run_in_the_hour_that_spring_leaves_out_comes_right_after_it_once() {
    assert_eq!(
        runs("30 2 * * *", Europe::Paris, "2026-03-28T12:00:00Z", 2),
        ["Sun 29 03:00 CEST", "Mon 30 02:30 CEST"]
    );
    assert_eq!(
        runs("*/20 2 * * *", Europe::Paris, "2026-03-28T12:00:00Z", 2),
        ["Sun 29 03:00 CEST", "Mon 30 02:00 CEST"]
    );
}

#[test]
fn a_run_in_the_hour_that_autumn_repeats_comes_the_first_time_only() {
    assert_eq!(
        runs("30 2 * * *", Europe::Paris, "2026-10-24T12:00:00Z", 2),
        ["Sun 25 02:30 CEST", "Mon 26 02:30 CET"]
    );
    // asked in the middle of the repetition
    assert_eq!(runs("30 2 * * *", Europe::Paris, "2026-10-25T01:10:00Z", 1), ["Mon 26 02:30 CET"]);
}

#[test]
fn an_hourly_run_leaves_no_hole_of_two_hours_in_autumn() {
    assert_eq!(
        runs("0 * * * *", Europe::Paris, "2026-10-24T23:30:00Z", 4),
        ["Sun 25 02:00 CEST", "Sun 25 02:00 CET", "Sun 25 03:00 CET", "Sun 25 04:00 CET"]
    );
}

#[test]
fn a_day_that_an_island_leaves_out_is_made_up_for_once() {
    // Samoa went from the 29th to the 31st of December 2011
    assert_eq!(
        runs("0 12 * * *", chrono_tz::Pacific::Apia, "2011-12-29T12:00:00Z", 3),
        ["Thu 29 12:00 -10", "Sat 31 00:00 +14", "Sat 31 12:00 +14"]
    );
}

#[test]
fn words_mean_what_crontab_says() {
    assert_eq!(runs("@weekly", Tz::UTC, "2026-11-20T00:00:00Z", 1), ["Sun 22 00:00 UTC"]);
    assert_eq!(runs("@hourly", Tz::UTC, "2026-11-20T00:00:00Z", 1), ["Fri 20 01:00 UTC"]);
    assert!(Schedule::parse("@reboot").unwrap_err().to_string().contains("@hourly"));
}

#[test]
fn what_cannot_be_read_is_named_with_what_would_be_right() {
    for (text, said) in [
        ("0 * * *", "has 4 fields: five are needed"),
        ("0 0 * * * *", "has 6 fields"),
        ("", "has 0 fields"),
        ("60 * * * *", "\"60\" is not a minute of a schedule: 0 to 59 are"),
        ("0 0 0 * *", "\"0\" is not a day of month of a schedule: 1 to 31 are"),
        (
            "0 0 * * 8",
            "\"8\" is not a day of week of a schedule: 0 to 7 are (0 and 7 are Sunday), or sun to sat",
        ),
        ("0 0 * foo *", "\"foo\" is not a month of a schedule: 1 to 12 are, or jan to dec"),
        ("0 0 * * fri-sun", "ends before it begins"),
        ("*/0 * * * *", "1 to 59 may follow"),
        ("5/15 * * * *", "a range or \"*\" is needed"),
        ("-1 * * * *", "\"\" is not a minute"),
        ("1,,2 * * * *", "\"\" is not a minute"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 ? * *", "\"?\" is not a day of month"),
    ] {
        let error = Schedule::parse(text).unwrap_err().to_string();
        assert!(error.contains(said), "{text:?}: {error}");
    }
}

#[test]
fn a_leap_day_waits_for_its_year() {
    let next = Schedule::parse("0 0 29 feb *").unwrap().next_after(at("2026-11-20T00:00:00Z"), &Utc);
    assert_eq!(next, Some(at("2028-02-29T00:00:00Z")));
    let end = Schedule::parse("0 0 1 1 *").unwrap().next_after(at("2100-06-01T00:00:00Z"), &Utc);
    assert_eq!(end, None);
}

fn field(min: u32, max: u32) -> impl Strategy<Value = String> {
    let part = prop_oneof![
        3 => (min..=max).prop_map(|n| n.to_string()),
        2 => (min..=max, min..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (min..=max, min..=max, 1..=max).prop_map(|(a, b, s)| format!("{}-{}/{s}", a.min(b), a.max(b))),
        1 => (1..=max).prop_map(|s| format!("*/{s}")),
    ];
    prop_oneof![
        2 => Just("*".to_owned()),
        3 => prop::collection::vec(part, 1..3).prop_map(|parts| parts.join(",")),
    ]
}

fn zone() -> impl Strategy<Value = Tz> {
    prop::sample::select(vec![
        Europe::Paris,
        chrono_tz::America::St_Johns,
        chrono_tz::Australia::Lord_Howe,
        chrono_tz::Asia::Kathmandu,
        chrono_tz::UTC,
    ])
}

/// Seconds of 2026: half of them within three hours of a change of daylight saving in one of the zones.
fn wall() -> impl Strategy<Value = DateTime<Utc>> {
    let changes = [
        "2026-03-29T01:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-03-08T05:30:00Z",
        "2026-11-01T04:30:00Z",
        "2026-04-04T15:00:00Z",
        "2026-10-03T15:30:00Z",
    ]
    .map(|text| at(text).timestamp());
    let year = at("2026-01-01T00:00:00Z").timestamp();
    prop_oneof![
        (prop::sample::select(changes.to_vec()), -10_800..10_800i64).prop_map(|(change, by)| change + by),
        (year..year + 365 * 86_400),
    ]
    .prop_map(|seconds| DateTime::from_timestamp(seconds, 0).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_next_run_is_the_one_that_going_through_every_minute_finds(
        minute in field(0, 59), hour in field(0, 23), date in field(1, 31),
        weekday in field(0, 7), zone in zone(), wall in wall(),
    ) {
        let text = format!("{minute} {hour} {date} * {weekday}");
        let schedule = Schedule::parse(&text).unwrap();
        let found = schedule.next_after(wall, &zone);
        let days = 6;
        match model::next_within(&text, wall, &zone, days) {
            Some(expected) => prop_assert_eq!(found, Some(expected), "{} in {}", text, zone),
            None => prop_assert!(
                found.is_none_or(|found| found > wall + TimeDelta::days(days)), "{} in {}: {:?}", text, zone, found
            ),
        }
    }

    #[test]
    fn going_from_run_to_run_always_moves_forward(
        minute in field(0, 59), hour in field(0, 23), zone in zone(), mut wall in wall(),
    ) {
        let schedule = Schedule::parse(&format!("{minute} {hour} * * *")).unwrap();
        for _ in 0..20 {
            let next = schedule.next_after(wall, &zone).unwrap();
            prop_assert!(next > wall);
            wall = next;
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,40}") {
        let _ = Schedule::parse(&text);
    }
}
