//! Announcements and questions on a real wire.

use std::net::IpAddr;

use super::*;
use crate::cluster::address::Address;
use crate::cluster::announce::{Announcer, Claim};
use crate::cluster::gate::Gate;

const VALID: Duration = Duration::from_secs(30);
/// What a holder takes to answer at most, here.
const ANSWERED: Duration = Duration::from_millis(300);

fn announcer(vip: &str) -> Announcer {
    let vip: IpAddr = vip.parse().unwrap();
    let link = Address::new(vip, WIRE).unwrap().link();
    Announcer::open(vip, WIRE, link).unwrap()
}

/// Everybody who is heard to have the address within the time that an answer takes.
fn heard(announcer: &Announcer) -> Vec<Claim> {
    thread::sleep(ANSWERED);
    std::iter::from_fn(|| announcer.heard().unwrap()).collect()
}

fn asked(announcer: &Announcer) -> Vec<Claim> {
    announcer.ask().unwrap();
    heard(announcer)
}

fn hardware_of_the_phone(phone: &Phone) -> Claim {
    Claim { hardware: Some(phone.run(hardware).parse().unwrap()) }
}

fn closed(vip: &str) -> Gate {
    let mut gate = Gate::new(vip.parse().unwrap(), WIRE).unwrap();
    gate.build().unwrap();
    gate
}

fn open(gate: &mut Gate) {
    gate.permit(Duration::from_secs(1)).unwrap();
    gate.open(VALID).unwrap();
}

#[test]
fn a_question_through_a_closed_gate_is_answered_by_the_holder_and_by_nobody_else() {
    beside_a_phone(|phone| {
        for (vip, form) in [(VIP, "10.9.0.9/32"), (VIP6, "fd09::9/128 nodad")] {
            let _gate = closed(vip);
            let announcer = announcer(vip);
            assert_eq!(asked(&announcer), [], "nobody has it");
            phone.sh(&format!("ip addr add dev {WIRE} {form}"));
            // an IPv6 address listens a moment after it was added
            wait_until("the holder answers", || asked(&announcer) == [hardware_of_the_phone(phone)]);
            assert_eq!(heard(&announcer), [], "nothing is heard twice");
        }
    });
}

#[test]
fn a_holder_whose_gate_is_closed_does_not_answer_and_one_whose_gate_is_open_does() {
    beside_a_phone(|phone| {
        for vip in [VIP, VIP6] {
            let announcer = announcer(vip);
            let address = vip.to_owned();
            let mut gate = phone.run(move || {
                let gate = closed(&address);
                Address::new(address.parse().unwrap(), WIRE).unwrap().hold(VALID).unwrap();
                gate
            });
            assert_eq!(asked(&announcer), []);
            // a gate is of the network namespace in which it was opened, wherever it is used
            open(&mut gate);
            wait_until("the holder answers", || asked(&announcer) == [hardware_of_the_phone(phone)]);
        }
    });
}

/// What the phone believes of it.
fn believed(phone: &Phone, vip: &str) -> String {
    phone.sh(&format!("ip neigh show to {vip} dev {WIRE}"))
}

#[test]
fn an_announcement_moves_the_address_in_a_phones_memory_and_is_heard_by_another_holder() {
    beside_a_phone(|phone| {
        for vip in [VIP, VIP6] {
            let announcer = announcer(vip);
            let address = vip.to_owned();
            let listening = phone.run(move || self::announcer(&address));
            let own = hardware();
            phone.sh(&format!("ip neigh replace {vip} lladdr 02:00:00:00:00:99 nud stale dev {WIRE}"));
            announcer.announce().unwrap();
            wait_until("the phone follows", || believed(phone, vip).contains(&own));
            let claim = Claim { hardware: Some(own.parse().unwrap()) };
            let claims = heard(&listening);
            // ARP in both forms
            assert_eq!(claims, vec![claim; if vip == VIP { 2 } else { 1 }]);
            assert_eq!(heard(&announcer), [], "not by the one who speaks");
        }
    });
}

#[test]
fn an_announcement_does_not_pass_a_closed_gate() {
    beside_a_phone(|phone| {
        for vip in [VIP, VIP6] {
            let mut gate = closed(vip);
            let announcer = announcer(vip);
            phone.sh(&format!("ip neigh replace {vip} lladdr 02:00:00:00:00:99 nud stale dev {WIRE}"));
            assert!(announcer.announce().is_err(), "{vip}");
            thread::sleep(ANSWERED);
            assert!(believed(phone, vip).contains("02:00:00:00:00:99"));
            open(&mut gate);
            announcer.announce().unwrap();
            wait_until("the phone follows", || !believed(phone, vip).contains("02:00:00:00:00:99"));
        }
    });
}

#[test]
fn the_other_nodes_announcement_is_followed_through_a_closed_gate() {
    beside_a_phone(|phone| {
        for vip in [VIP, VIP6] {
            let _gate = closed(vip);
            sh(&format!("ip neigh replace {vip} lladdr 02:00:00:00:00:99 nud stale dev {WIRE}"));
            let address = vip.to_owned();
            phone.run(move || announcer(&address).announce().unwrap());
            let there = hardware_of_the_phone(phone).hardware.unwrap().to_string();
            wait_until("this machine follows", || {
                sh(&format!("ip neigh show to {vip} dev {WIRE}")).contains(&there)
            });
        }
    });
}
