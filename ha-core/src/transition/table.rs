//! The rows.

use super::{Address, Guard, Move, Rule};
use crate::distribution::ServiceState;
use crate::health::Verdict;
use crate::role::Role;

/// Start it.
const START: Move = Move::Want(ServiceState::Running);
/// Stop it.
const STOP: Move = Move::Want(ServiceState::Stopped);
/// Give the address away.
const HANDOVER: Move = Move::HandOver;

const DISABLED: &[Role] = &[Role::Disabled];
const MASTER: &[Role] = &[Role::Master];
const SLAVE: &[Role] = &[Role::Slave];
const PAIRED: &[Role] = &[Role::Master, Role::Slave];
const ANYWHERE: &[Address] = &Address::ALL;
const OWN: &[Address] = &[Address::Own];
const UNSAID: &[Address] = &[Address::Unknown];
const HELD: &[Address] = &[Address::Held];
const AWAY: &[Address] = &[Address::Elsewhere];
const SHARED: &[Address] = &[Address::Unknown, Address::Held, Address::Elsewhere];
const ACTIVE: &[bool] = &[true];
const PASSIVE: &[bool] = &[false];
const EITHER: &[bool] = &[true, false];
const ANY: &[Verdict] = &Verdict::ALL;
const UNKNOWN: &[Verdict] = &[Verdict::Unknown];
const KNOWN: &[Verdict] = &[Verdict::Up, Verdict::Degraded, Verdict::Down];
const DOWN: &[Verdict] = &[Verdict::Down];
const NOT_UP: &[Verdict] = &[Verdict::Degraded, Verdict::Down];
const SILENT: &[Verdict] = &[Verdict::Unknown, Verdict::Down];
const UNREADY: &[Verdict] = &[Verdict::Unknown, Verdict::Degraded, Verdict::Down];
const HEARD: &[Verdict] = &[Verdict::Up, Verdict::Degraded];
const UP: &[Verdict] = &[Verdict::Up];
const DEGRADED: &[Verdict] = &[Verdict::Degraded];
const EVERY: &[Guard] = &Guard::ALL;
const CLEAR: &[Guard] = &[Guard::Clear];
/// Anything but maintenance.
pub(super) const WORKING: &[Guard] = EVERY.split_at(1).1;

/// `R(id, roles, address, active, from, to, guards, move, sentence)`, so that a row is a line.
macro_rules! rules {
    ($($id:literal $roles:ident $address:ident $active:ident $from:ident $to:ident $guards:expr, $services:expr, $why:literal;)*) => {
        &[$(Rule { id: $id, roles: $roles, address: $address, active: $active, from: $from, to: $to, guards: $guards, services: $services, why: $why },)*]
    };
}

/// The failover and failback table: S and M where each node has its own address, X where the pair shares one. Entering a
/// role changes nothing here: `configure` does what a role change does.
#[rustfmt::skip]
pub static RULES: &[Rule] = rules! {
    "D1"  DISABLED ANYWHERE EITHER  ANY      ANY      EVERY,                  Move::Keep, "this node is not part of a pair: nothing is decided";

    "S0"  SLAVE    OWN      EITHER  ANY      UNKNOWN  WORKING,                Move::Keep, "no verdict on the master yet: wait";
    "S1"  SLAVE    OWN      PASSIVE UNKNOWN  UP       WORKING,                STOP,       "master answers: stand by";
    "S2"  SLAVE    OWN      PASSIVE KNOWN    UP       WORKING,                STOP,       "master answers again: stand by";
    "S3"  SLAVE    OWN      PASSIVE UNKNOWN  DOWN     CLEAR,                  START,      "master does not answer: take over";
    "S4"  SLAVE    OWN      PASSIVE KNOWN    DOWN     CLEAR,                  START,      "master stopped answering: take over";
    "S5"  SLAVE    OWN      PASSIVE ANY      NOT_UP   &[Guard::Isolated],     Move::Keep, "master and all references are silent: this node is isolated and does not take over";
    "S6"  SLAVE    OWN      PASSIVE ANY      NOT_UP   &[Guard::Asking],       Move::Keep, "master is silent: ask the references before deciding";
    "S7"  SLAVE    OWN      PASSIVE ANY      DEGRADED &[Guard::Settling],     Move::Keep, "master's host answers, its telephony does not: give it time to restart";
    "S8"  SLAVE    OWN      PASSIVE ANY      DEGRADED CLEAR,                  START,      "master's telephony stayed silent: take over";
    "S9"  SLAVE    OWN      EITHER  ANY      ANY      &[Guard::Maintenance],  Move::Keep, "maintenance: nothing is started or stopped";
    "S10" SLAVE    OWN      ACTIVE  ANY      UP       CLEAR,                  STOP,       "master is back and ready: hand back";
    "S11" SLAVE    OWN      ACTIVE  ANY      UP       &[Guard::Hold],         Move::Keep, "master answers: keep serving until it has been ready for the hold time";
    "S12" SLAVE    OWN      ACTIVE  ANY      UP       &[Guard::HoldDown],     Move::Keep, "master answers: keep serving, the last failback was too recent";
    "S13" SLAVE    OWN      ACTIVE  ANY      UP       &[Guard::Policy],       Move::Keep, "master answers: keep serving until failback is asked for or its window opens";
    "S14" SLAVE    OWN      ACTIVE  ANY      UP       &[Guard::Latched],      Move::Keep, "the pair flaps: keep serving until a person acknowledges";
    "S15" SLAVE    OWN      ACTIVE  ANY      UP       &[Guard::Yielded],      Move::Keep, "master handed over on purpose: keep serving until it asks for failback";
    "S16" SLAVE    OWN      ACTIVE  ANY      DOWN     CLEAR,                  START,      "master is down: keep serving";
    "S17" SLAVE    OWN      ACTIVE  ANY      DEGRADED CLEAR,                  START,      "master's telephony is silent: keep serving";

    "M0"  MASTER   OWN      EITHER  ANY      UNKNOWN  WORKING,                Move::Keep, "no verdict on the slave yet: go on";
    "M1"  MASTER   OWN      ACTIVE  UNKNOWN  UP       WORKING,                Move::Keep, "slave answers: replicate to it";
    "M2"  MASTER   OWN      ACTIVE  KNOWN    UP       WORKING,                Move::Keep, "slave is back: replicate again";
    "M3"  MASTER   OWN      ACTIVE  UNKNOWN  DOWN     WORKING,                Move::Keep, "slave silent: keep serving alone";
    "M4"  MASTER   OWN      ACTIVE  KNOWN    DOWN     WORKING,                Move::Keep, "slave lost: keep serving alone";
    "M5"  MASTER   OWN      ACTIVE  ANY      DEGRADED WORKING,                Move::Keep, "slave's host answers and its telephony rests: go on";
    "M6"  MASTER   OWN      PASSIVE ANY      UP       WORKING,                Move::Keep, "slave serves, telephony was handed over to it: stand by";
    "M7"  MASTER   OWN      PASSIVE ANY      DOWN     CLEAR,                  START,      "slave lost after the handover: serve again";
    "M8"  MASTER   OWN      PASSIVE ANY      NOT_UP   &[Guard::Isolated],     Move::Keep, "slave and all references are silent: this node is isolated and does not take telephony back";
    "M9"  MASTER   OWN      PASSIVE ANY      NOT_UP   &[Guard::Asking],       Move::Keep, "slave is silent: ask the references before deciding";
    "M10" MASTER   OWN      PASSIVE ANY      DEGRADED &[Guard::Settling],     Move::Keep, "slave's host answers, its telephony does not: give it time to restart";
    "M11" MASTER   OWN      PASSIVE ANY      DEGRADED CLEAR,                  START,      "slave's telephony stayed silent after the handover: serve again";
    "M12" MASTER   OWN      EITHER  ANY      ANY      &[Guard::Maintenance],  Move::Keep, "maintenance: nothing is started or stopped";

    "X0"  PAIRED   UNSAID   EITHER  ANY      ANY      CLEAR,                  Move::Keep, "the cluster has not said yet where the address is: leave telephony as it is";
    "X1"  PAIRED   AWAY     PASSIVE ANY      ANY      CLEAR,                  STOP,       "the address is not here: stand by";
    "X2"  PAIRED   AWAY     ACTIVE  ANY      ANY      CLEAR,                  STOP,       "the address left this node: stop";
    "X3"  SLAVE    HELD     PASSIVE ANY      SILENT   CLEAR,                  START,      "master is silent and the address came here: take over";
    "X4"  SLAVE    HELD     PASSIVE ANY      DEGRADED CLEAR,                  START,      "master cannot serve and the address came here: take over";
    "X5"  SLAVE    HELD     PASSIVE ANY      UP       CLEAR,                  START,      "master handed the address over: serve";
    "X6"  MASTER   HELD     PASSIVE ANY      ANY      CLEAR,                  START,      "the address came here: serve";
    "X7"  MASTER   HELD     ACTIVE  ANY      ANY      CLEAR,                  START,      "the address is here: keep serving";
    "X8"  SLAVE    HELD     ACTIVE  ANY      UNREADY  CLEAR,                  START,      "master is not ready: keep serving";
    "X9"  SLAVE    HELD     ACTIVE  ANY      UP       CLEAR,                  HANDOVER,   "master is back and ready: hand the address over";
    "X10" SLAVE    HELD     ACTIVE  ANY      UP       &[Guard::Hold],         START,      "master answers: keep serving until it has been ready for the hold time";
    "X11" SLAVE    HELD     ACTIVE  ANY      UP       &[Guard::HoldDown],     START,      "master answers: keep serving, the last failback was too recent";
    "X12" SLAVE    HELD     ACTIVE  ANY      UP       &[Guard::Policy],       START,      "master answers: keep serving until failback is asked for or its window opens";
    "X13" SLAVE    HELD     ACTIVE  ANY      UP       &[Guard::Latched],      START,      "failback is latched: keep serving until a person acknowledges";
    "X14" SLAVE    HELD     ACTIVE  ANY      UP       &[Guard::Yielded],      START,      "master handed over on purpose: keep serving until failback is asked for";
    "X15" SLAVE    HELD     ACTIVE  ANY      UP       &[Guard::Refused],      START,      "master did not take the address: keep serving, and ask again later";
    "X16" PAIRED   HELD     ACTIVE  ANY      HEARD    &[Guard::Died],         HANDOVER,   "telephony died here: the other node takes over";
    "X17" PAIRED   HELD     ACTIVE  ANY      ANY      &[Guard::DiedAlone],    START,      "telephony died here and the other node cannot take over: start it again";
    "X18" PAIRED   HELD     ACTIVE  ANY      ANY      &[Guard::DiedForGood],  Move::Keep, "telephony died here, the other node cannot take over, and a restart is not wanted: a person must start it";
    "X19" PAIRED   SHARED   EITHER  ANY      ANY      &[Guard::Maintenance],  Move::Keep, "maintenance: nothing is started or stopped";
};
