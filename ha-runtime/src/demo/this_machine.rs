//! A distribution whose pair is on one machine: its role files name loopback addresses.
//!
//! They are refused as peers everywhere else, because they never lead to another machine. Here both nodes are this machine,
//! and only the demonstration's processes know it.

use ha_core::{
    Distribution, Effect, PeerAddress, Profile, Role, RoleChange, RoleConfig, RoleError, ServiceState,
};

/// A distribution whose pair is on this machine.
pub(super) struct OnThisMachine {
    inner: &'static dyn Distribution,
    role: Role,
    profile: &'static Profile,
}

impl OnThisMachine {
    /// `database`: there is a server to show.
    pub(super) fn new(inner: &'static dyn Distribution, role: Role, database: bool) -> OnThisMachine {
        let profile = inner.profile();
        let profile =
            if database { profile } else { Box::leak(Box::new(Profile { database: None, ..*profile })) };
        OnThisMachine { inner, role, profile }
    }
}

impl Distribution for OnThisMachine {
    fn profile(&self) -> &'static Profile {
        self.profile
    }

    /// A role file with a loopback address is believed when it would be right but for that.
    fn parse_role(&self, text: Option<&str>) -> Result<RoleConfig, RoleError> {
        let parsed = self.inner.parse_role(text);
        let Err(RoleError::UnusableAddress { address, .. }) = &parsed else { return parsed };
        let Ok(peer) = address.parse().map_or(Err(()), |ip| PeerAddress::on_this_machine(ip).map_err(drop))
        else {
            return parsed;
        };
        Ok(match self.role {
            Role::Slave => RoleConfig::Slave { master: peer },
            Role::Master | Role::Disabled => RoleConfig::Master { slave: peer },
        })
    }

    fn apply_role(&self, change: &RoleChange<'_>) -> Vec<Effect> {
        self.inner.apply_role(change)
    }

    fn set_services(&self, to: ServiceState, role: Role) -> Vec<Effect> {
        self.inner.set_services(to, role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its role file is the slave's other node, as text.
    struct OneLine;

    impl Distribution for OneLine {
        fn profile(&self) -> &'static Profile {
            &ha_core::testkit::EXAMPLE
        }

        fn parse_role(&self, text: Option<&str>) -> Result<RoleConfig, RoleError> {
            RoleConfig::new(Role::Slave, text.unwrap_or_default())
        }

        fn apply_role(&self, _: &RoleChange<'_>) -> Vec<Effect> {
            Vec::new()
        }
    }

    #[test]
    fn a_role_file_may_name_a_loopback_address_here_and_nothing_else_that_is_refused() {
        let parse = |text: &str| OnThisMachine::new(&OneLine, Role::Slave, true).parse_role(Some(text));
        assert!(OneLine.parse_role(Some("127.77.0.11")).is_err());
        assert_eq!(parse("127.77.0.11").unwrap().remote_address(), "127.77.0.11");
        assert_eq!(parse("10.77.0.11").unwrap().remote_address(), "10.77.0.11");
        for refused in ["224.0.0.1", "fe80::1", "pbx2", ""] {
            assert_eq!(parse(refused), OneLine.parse_role(Some(refused)));
        }
    }

    #[test]
    fn without_a_server_there_is_no_database_to_copy() {
        let database = |wanted| OnThisMachine::new(&OneLine, Role::Slave, wanted).profile().database;
        assert_eq!(database(false), None);
        assert_eq!(database(true), ha_core::testkit::EXAMPLE.database);
    }
}
