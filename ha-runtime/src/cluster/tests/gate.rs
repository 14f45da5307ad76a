//! The gate on a real kernel, seen from another machine.

use std::net::{IpAddr, UdpSocket};
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};

use super::*;
use crate::cluster::gate::{Disturbance, Gate, GateError, Spent};

pub(super) const LEASE: Duration = Duration::from_millis(600);
const PERMIT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(60);

pub(super) fn gate(address: &str) -> Gate {
    let mut gate = Gate::new(address.parse().unwrap(), WIRE).unwrap();
    gate.build().unwrap();
    assert!(gate.stops_raw_announcements());
    gate
}

pub(super) fn open(gate: &mut Gate, lease: Duration) {
    gate.permit(PERMIT).unwrap();
    gate.open(lease).unwrap();
}

pub(super) fn renew(gate: &mut Gate, lease: Duration) -> Result<(), GateError> {
    gate.permit(PERMIT)?;
    gate.renew(lease)
}

fn refused(result: Result<(), GateError>) -> Spent {
    match result {
        Err(GateError::Refused(spent)) => spent,
        other => panic!("{other:?}"),
    }
}

/// Whether a datagram to this address is answered by its holder.
fn answers(phone: &Phone, address: &str) -> bool {
    let holder = UdpSocket::bind((address, 5060)).unwrap();
    holder.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let target = holder.local_addr().unwrap();
    let asking = phone.run(move || {
        let any: IpAddr = if target.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket.send_to(b"OPTIONS", target).unwrap();
        socket
    });
    let mut buffer = [0; 16];
    if let Ok((_, from)) = holder.recv_from(&mut buffer) {
        let _ = holder.send_to(b"OK", from);
    }
    phone.run(move || asking.recv(&mut [0; 16]).is_ok())
}

/// Whether the phone learns a hardware address for it, beginning with none.
fn resolves(phone: &Phone, address: &str) -> bool {
    phone.sh(&format!("ip neigh flush to {address}"));
    phone.reaches(address);
    phone.sh(&format!("ip neigh show to {address}")).contains("lladdr")
}

fn is_silent_when_closed_and_answers_when_open(phone: &Phone, vip: &str, other: &str, form: &str) {
    let mut gate = gate(vip);
    sh(&format!("ip addr add dev {WIRE} {vip}/{form}"));
    assert!(!resolves(phone, vip) && !answers(phone, vip));
    assert_eq!(gate.left().unwrap(), None);

    open(&mut gate, LONG);
    let left = gate.left().unwrap().unwrap();
    assert!(left <= LONG && left > LONG - PATIENCE, "{left:?}");
    wait_until("it is open to ARP, ping and UDP", || {
        resolves(phone, vip) && phone.reaches(vip) && answers(phone, vip)
    });

    // the phone still knows the hardware address: what is closed now is IP itself
    gate.close().unwrap();
    assert_eq!(gate.left().unwrap(), None);
    assert!(!phone.reaches(vip) && !answers(phone, vip));
    // what the machine says from the address, not only what it answers
    assert!(!output(&format!("ping -n -c 1 -W 0.4 -I {vip} {other}")).status.success());
    gate.close().unwrap();
}

#[test]
fn what_is_closed_is_silent_and_what_is_open_answers() {
    beside_a_phone(|phone| is_silent_when_closed_and_answers_when_open(phone, VIP, PHONE, "32"));
}

#[test]
fn an_ipv6_address_is_closed_and_opened_too() {
    beside_a_phone(|phone| is_silent_when_closed_and_answers_when_open(phone, VIP6, PHONE6, "128 nodad"));
}

#[test]
fn this_machine_reaches_the_address_at_the_other_node_through_its_closed_gate() {
    beside_a_phone(|phone| {
        for (vip, own, form) in [(VIP, HOST, "32"), (VIP6, HOST6, "128 nodad")] {
            let _gate = gate(vip);
            phone.sh(&format!("ip addr add dev {WIRE} {vip}/{form}"));
            wait_until("it is reached from here", || reaches(vip));
            phone.sh(&format!("ping -n -c 1 -W 2 -I {vip} {own}"));
        }
    });
}

#[test]
fn a_grant_is_refused_when_its_permit_or_the_lease_has_run_out() {
    beside_a_phone(|_| {
        let mut gate = gate(VIP);
        assert_eq!(refused(gate.open(LEASE)), Spent::Permit, "no permit was taken out");
        gate.permit(PERMIT).unwrap();
        assert_eq!(refused(gate.renew(LEASE)), Spent::Lease, "nothing is open yet");
        gate.permit(PERMIT).unwrap();
        thread::sleep(PERMIT + Duration::from_millis(10));
        assert_eq!(refused(gate.open(LEASE)), Spent::Permit, "it ran out");
        assert_eq!(gate.left().unwrap(), None, "nothing of a refused grant remains");

        open(&mut gate, LEASE);
        assert_eq!(refused(gate.renew(LEASE)), Spent::Permit, "it was spent");
        renew(&mut gate, LEASE).unwrap();
        gate.permit(PERMIT).unwrap();
        gate.permit(PERMIT).unwrap();
        gate.renew(LEASE).unwrap();
        assert_eq!(refused(gate.renew(LEASE)), Spent::Permit, "two permits are not good for two grants");
        thread::sleep(LEASE + Duration::from_millis(10));
        assert_eq!(refused(renew(&mut gate, LEASE)), Spent::Lease, "it ran out");
        gate.permit(PERMIT).unwrap();
        gate.close().unwrap();
        assert_eq!(refused(gate.open(LEASE)), Spent::Permit, "closing voids it");
        open(&mut gate, LEASE);
        renew(&mut gate, LEASE).unwrap();
    });
}

#[test]
fn a_lease_never_runs_longer_than_asked() {
    beside_a_phone(|_| {
        let mut gate = gate(VIP);
        // of the slowest clock that ticks 100 times a second, two
        let jiffies = Duration::from_millis(20);
        for lease in [33, 50, 101, 150, 300].map(Duration::from_millis) {
            gate.permit(PERMIT).unwrap();
            let before = Instant::now();
            gate.open(lease).unwrap();
            let after = Instant::now();
            let mut last = after;
            loop {
                let asked = Instant::now();
                if gate.left().unwrap().is_none() {
                    break;
                }
                last = asked;
            }
            let (longest, shortest) = (last - after, before.elapsed());
            assert!(longest <= lease, "{lease:?} still lived after {longest:?}");
            assert!(shortest + jiffies >= lease, "{lease:?} had ended after {shortest:?}");
        }
    });
}

#[test]
fn a_lease_of_no_time_does_not_stay_for_ever() {
    beside_a_phone(|_| {
        let mut gate = gate(VIP);
        open(&mut gate, Duration::ZERO);
        wait_until("it is closed", || gate.left().unwrap().is_none());
    });
}

#[test]
fn building_a_gate_anew_lets_nothing_through() {
    beside_a_phone(|phone| {
        let mut gate = gate(VIP);
        sh(&format!("ip addr add {VIP}/32 dev {WIRE}"));
        phone.sh(&format!("ip neigh replace {VIP} lladdr {} nud permanent dev {WIRE}", hardware()));
        let (pinged, done) = channel::<()>();
        let building = thread::spawn(move || {
            let mut turns = 0;
            while done.try_recv() == Err(TryRecvError::Empty) {
                gate.build().unwrap();
                turns += 1;
            }
            turns
        });
        let said = phone.run(|| output(&format!("ping -n -q -i 0.001 -c 1000 -W 0.2 {VIP}")));
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("1000 packets transmitted, 0 received"), "{said}");
        drop(pinged);
        let turns = building.join().unwrap();
        assert!(turns > 10, "{turns}");
        eprintln!("built {turns} times during 1000 pings");
    });
}

#[test]
fn renewals_lose_no_ping_in_five_seconds() {
    beside_a_phone(|phone| {
        let mut gate = gate(VIP);
        sh(&format!("ip addr add {VIP}/32 dev {WIRE}"));
        open(&mut gate, LEASE);
        let (pinged, done) = channel::<()>();
        let renewing = thread::spawn(move || {
            let (mut turns, mut spent) = (0, Duration::ZERO);
            while done.recv_timeout(Duration::from_millis(50)) == Err(RecvTimeoutError::Timeout) {
                let turn = Instant::now();
                renew(&mut gate, LEASE).unwrap();
                assert_eq!(gate.disturbance().unwrap(), None, "what this process does is no disturbance");
                spent += turn.elapsed();
                turns += 1;
            }
            eprintln!("one renewal (permit, grant, own news): {:?} on average of {turns}", spent / turns);
        });
        let said = phone.sh(&format!("ping -n -q -i 0.01 -c 500 -W 0.5 {VIP}"));
        assert!(said.contains("500 received"), "{said}");
        drop(pinged);
        renewing.join().unwrap();
    });
}

fn changed_by_nft(gate: &mut Gate) {
    wait_until("the change is told", || match gate.disturbance().unwrap() {
        Some(Disturbance::Changed { process, name }) => {
            assert!(process > 0);
            assert_eq!(name, "nft");
            true
        }
        Some(worse @ (Disturbance::Undone | Disturbance::Unheard)) => panic!("{worse:?}"),
        None => false,
    });
}

#[test]
fn a_flush_of_all_rules_opens_nothing_and_is_told() {
    beside_a_phone(|phone| {
        let mut gate = gate(VIP);
        sh(&format!("ip addr add {VIP}/32 dev {WIRE}"));
        sh("nft add table inet other; nft delete table inet other");
        assert_eq!(gate.disturbance().unwrap(), None, "others' tables are no matter of ours");

        sh("nft flush ruleset");
        let tables = sh("nft list tables");
        assert!(tables.contains("pbx_ha_owned") && !tables.contains("inet pbx_ha\n"), "{tables}");
        assert!(!resolves(phone, VIP));
        changed_by_nft(&mut gate);
        assert!(matches!(gate.permit(PERMIT), Err(GateError::Missing)));
        assert!(matches!(gate.open(LONG), Err(GateError::Missing)));

        gate.build().unwrap();
        assert_eq!(gate.disturbance().unwrap(), None, "the repair is our own");
        assert!(!resolves(phone, VIP));
        open(&mut gate, LEASE * 3);
        assert!(resolves(phone, VIP));
        sh("nft flush ruleset");
        changed_by_nft(&mut gate);
        assert!(matches!(gate.renew(LONG), Err(GateError::Missing)));
        assert_eq!(gate.left().unwrap(), None, "not open in both copies");
        assert!(phone.reaches(VIP), "the owned copy's lease lives");
        thread::sleep(LEASE * 3);
        assert!(!phone.reaches(VIP), "and ends");
        sh("nft flush ruleset");
        gate.build().unwrap();
        open(&mut gate, LEASE);
        sh("nft delete table arp pbx_ha");
        gate.close().unwrap();
        assert!(!phone.reaches(VIP), "a missing table keeps no other one open");
    });
}

#[test]
fn a_mended_gate_opens_only_by_a_grant_and_while_the_owned_copys_lease_lives() {
    beside_a_phone(|phone| {
        let mut gate = gate(VIP);
        sh(&format!("ip addr add {VIP}/32 dev {WIRE}"));
        open(&mut gate, LONG);
        phone.comes_to_reach(VIP);
        for disturbance in [
            "nft flush ruleset".to_owned(),
            "nft delete table inet pbx_ha".to_owned(),
            // it would never be closed again
            format!(
                "nft add element inet pbx_ha lease '{{ {VIP} timeout 1d }}' || nft flush set inet pbx_ha lease"
            ),
        ] {
            sh(&disturbance);
            changed_by_nft(&mut gate);
            gate.mend().unwrap();
            assert_eq!(gate.disturbance().unwrap(), None, "the repair is our own");
            assert_eq!(gate.left().unwrap(), None, "{disturbance}");
            assert!(!phone.reaches(VIP), "{disturbance}");
            assert_eq!(refused(gate.reopen(LONG)), Spent::Permit);
            gate.permit(PERMIT).unwrap();
            gate.reopen(LONG).unwrap();
            assert!(gate.left().unwrap().is_some());
            phone.comes_to_reach(VIP);
        }

        // as after a pause
        gate.close().unwrap();
        open(&mut gate, LEASE);
        sh("nft flush ruleset");
        gate.mend().unwrap();
        thread::sleep(LEASE + Duration::from_millis(10));
        gate.permit(PERMIT).unwrap();
        assert_eq!(refused(gate.reopen(LONG)), Spent::Lease, "it ran out in the owned copy");
        assert!(!phone.reaches(VIP));
    });
}

#[test]
fn what_an_engine_has_left_is_taken_away_by_a_program_without_one() {
    beside_a_phone(|phone| {
        sh(&format!("ip addr add {VIP}/32 dev {WIRE}"));
        let present = gate(VIP);
        assert!(matches!(Gate::remove_left(), Err(GateError::Taken)));
        assert!(!phone.reaches(VIP));
        drop(present);
        wait_until("the owned copy goes with its socket", || !sh("nft list tables").contains("owned"));
        assert!(!phone.reaches(VIP), "the plain copy stays");
        Gate::remove_left().unwrap();
        assert_eq!(sh("nft list tables"), "");
        phone.comes_to_reach(VIP);
        Gate::remove_left().unwrap();
    });
}

#[test]
fn somebody_elses_element_opens_one_copy_only() {
    beside_a_phone(|phone| {
        let mut gate = gate(VIP);
        sh(&format!("ip addr add {VIP}/32 dev {WIRE}"));
        for family in ["arp", "inet", "netdev"] {
            sh(&format!("nft add element {family} pbx_ha lease '{{ {VIP} }}'"));
            let denied = output(&format!("nft add element {family} pbx_ha_owned lease '{{ {VIP} }}'"));
            assert!(
                String::from_utf8_lossy(&denied.stderr).contains("Operation not permitted"),
                "{denied:?}"
            );
        }
        assert!(!resolves(phone, VIP));
        changed_by_nft(&mut gate);
    });
}

#[test]
fn one_process_at_a_time_has_the_gate_and_the_next_one_finds_it_closed() {
    beside_a_phone(|phone| {
        sh(&format!("ip addr add {VIP}/32 dev {WIRE}"));
        let mut first = gate(VIP);
        open(&mut first, LONG);
        let mut second = Gate::new(VIP.parse().unwrap(), WIRE).unwrap();
        assert!(matches!(second.build(), Err(GateError::Taken)));
        assert!(phone.reaches(VIP), "a refused one changed nothing");
        drop(first);
        wait_until("the owned copy goes with its socket", || !sh("nft list tables").contains("owned"));
        second.build().unwrap();
        assert!(!phone.reaches(VIP));
        second.remove().unwrap();
        assert_eq!(sh("nft list tables"), "");
        phone.comes_to_reach(VIP);
    });
}

#[test]
fn a_gate_without_its_interface_is_built_all_the_same() {
    beside_a_phone(|phone| {
        sh(&format!("ip addr add {VIP}/32 dev {WIRE}"));
        let mut gate = Gate::new(VIP.parse().unwrap(), "eth7").unwrap();
        gate.build().unwrap();
        assert!(!resolves(phone, VIP));
        open(&mut gate, LONG);
        phone.comes_to_reach(VIP);
        gate.remove().unwrap();
    });
}
