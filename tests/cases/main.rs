//! What the pair does when parts of it fail, on hosts with real kernels, sshd and PostgreSQL.
//!
//! One function per fault; each asserts on what was measured in the lab: who answers SIP, which commands were
//! called and when, what lies on the disks and in the databases, and what the program said.

/// Makes two tests of each of these cases, which take the product that they are about.
macro_rules! for_every_product {
    ($($case:ident),+ $(,)?) => {
        mod wazo {
            $(#[test]
            fn $case() {
                super::$case(ha_tests::Product::WAZO);
            })+
        }
        mod xivo {
            $(#[test]
            fn $case() {
                super::$case(ha_tests::Product::XIVO);
            })+
        }
    };
}

mod address;
mod asterisk;
mod boots;
mod calls;
mod carry;
mod changes;
mod cluster;
mod commit;
mod compare;
mod configure;
mod database;
mod engine;
mod faults;
mod files;
mod followers;
mod harness;
mod heartbeat;
mod hosts;
mod journal;
mod line;
mod links;
mod long;
mod outcome;
mod pull;
mod sark;
mod telephony;
mod vip;
mod wires;
