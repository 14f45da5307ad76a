//! The address on a real interface.

use super::*;
use crate::cluster::address::{Address, AddressError, Changes};

const VALID: Duration = Duration::from_secs(30);

fn shown() -> String {
    sh(&format!("ip -o addr show dev {WIRE}"))
}

fn removed(address: &mut Address) -> bool {
    address.changes().unwrap().removed
}

#[test]
fn an_address_is_held_and_withdrawn_over_both_versions_of_ip() {
    beside_a_phone(|phone| {
        for (vip, form) in [(VIP, "10.9.0.9/32"), (VIP6, "fd09::9/128")] {
            let mut address = Address::new(vip.parse().unwrap(), WIRE).unwrap();
            let routes = || sh("ip route; ip -6 route");
            let before = routes();
            assert!(!address.present().unwrap());
            address.hold(VALID).unwrap();
            address.hold(VALID).unwrap();
            assert!(address.present().unwrap() && shown().contains(form), "{}", shown());
            phone.comes_to_reach(vip);
            assert_eq!(routes(), before);
            address.withdraw().unwrap();
            assert!(!address.present().unwrap() && !shown().contains(form));
            address.withdraw().unwrap();
            assert_eq!(address.changes().unwrap(), Changes::default(), "all of it was done here");
        }
    });
}

#[test]
fn no_connection_of_the_machine_itself_begins_at_the_address() {
    beside_a_phone(|_| {
        for (vip, phone, own) in [(VIP, PHONE, HOST), (VIP6, PHONE6, HOST6)] {
            Address::new(vip.parse().unwrap(), WIRE).unwrap().hold(VALID).unwrap();
            let route = sh(&format!("ip route get {phone}"));
            assert!(route.contains(&format!("src {own} ")), "{route}");
        }
    });
}

#[test]
fn an_address_that_is_not_renewed_runs_out_and_one_that_is_renewed_stays() {
    beside_a_phone(|_| {
        let mut left = Address::new(VIP.parse().unwrap(), WIRE).unwrap();
        let mut kept = Address::new(VIP6.parse().unwrap(), WIRE).unwrap();
        let begin = Instant::now();
        left.hold(Duration::from_millis(1001)).unwrap();
        assert!(shown().contains("valid_lft 2sec"), "{}", shown());
        wait_until("it runs out", || {
            kept.hold(Duration::from_secs(2)).unwrap();
            thread::sleep(Duration::from_millis(100));
            begin.elapsed() > Duration::from_secs(3) && removed(&mut left)
        });
        assert!(!left.present().unwrap() && kept.present().unwrap());
        assert!(!removed(&mut kept));
    });
}

#[test]
fn the_address_outlives_the_removal_of_the_interfaces_own() {
    beside_a_phone(|_| {
        let mut address = Address::new(VIP.parse().unwrap(), WIRE).unwrap();
        address.hold(VALID).unwrap();
        sh(&format!("ip addr del {HOST}/24 dev {WIRE}"));
        assert!(address.present().unwrap());
        assert!(!removed(&mut address));
    });
}

#[test]
fn what_somebody_else_takes_away_is_told() {
    beside_a_phone(|_| {
        for (vip, form) in [(VIP, "10.9.0.9/32"), (VIP6, "fd09::9/128")] {
            let mut address = Address::new(vip.parse().unwrap(), WIRE).unwrap();
            address.hold(VALID).unwrap();
            sh(&format!("ip addr add 10.9.0.7/32 dev {WIRE}; ip addr del 10.9.0.7/32 dev {WIRE}"));
            assert!(!removed(&mut address));
            sh(&format!("ip addr del {form} dev {WIRE}"));
            wait_until("it is told", || removed(&mut address));
            address.hold(VALID).unwrap();
            assert!(address.present().unwrap() && !removed(&mut address));
        }
    });
}

#[test]
fn a_wire_that_is_cut_a_link_that_is_down_and_one_made_anew_are_told() {
    beside_a_phone(|phone| {
        let mut address = Address::new(VIP.parse().unwrap(), WIRE).unwrap();
        let first = address.link();
        assert!(first.carrier && shown().starts_with(&format!("{}: ", first.index)));
        assert_eq!(first.hardware.to_string(), hardware());
        let mut becomes = |carrier: bool| {
            wait_until("the carrier", || {
                address.changes().unwrap();
                address.link().carrier == carrier
            });
        };
        phone.sh(&format!("ip link set {WIRE} down"));
        becomes(false);
        phone.sh(&format!("ip link set {WIRE} up"));
        becomes(true);
        sh(&format!("ip link set {WIRE} down"));
        becomes(false);
        sh(&format!("ip link del {WIRE}"));
        becomes(false);
        assert!(matches!(address.hold(VALID), Err(AddressError::NoInterface(name)) if name == WIRE));
        address.withdraw().unwrap();
        sh(&format!(
            "ip link add {WIRE} type veth peer name other; ip link set other up; ip link set {WIRE} up"
        ));
        wait_until("the new one", || {
            address.changes().unwrap();
            address.link().carrier && address.link().index != first.index
        });
        address.hold(VALID).unwrap();
        assert!(address.present().unwrap());
        assert!(
            matches!(Address::new(VIP.parse().unwrap(), "eth7"), Err(AddressError::NoInterface(name)) if name == "eth7")
        );
    });
}
