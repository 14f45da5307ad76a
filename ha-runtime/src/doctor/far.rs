//! The slave as its master sees it: session, agent, role, version.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ha_core::Role;
use ha_core::replication::wire::{Hello, State};

use super::Check;
use crate::context::Context;
use crate::far::{Far, FarError, Word};
use crate::far_node;
use crate::report::Failure;
use crate::ssh::{Ssh, SshTarget};
use crate::way::{self, Way};

/// For the session, and again for the agent's answers.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// For each step of the session's start.
const STEP: Duration = Duration::from_secs(5);

/// What a session with the slave tells, and the session for more questions.
pub(super) async fn look(context: &Context, peer: IpAddr) -> (Vec<Check>, Option<Arc<dyn Far>>) {
    let owned = context.clone();
    let connected = within(move || Ok(connect(&owned, peer))).await;
    let far: Arc<dyn Far> = match connected {
        Ok(Ok(far)) => far,
        Ok(Err(error)) => return (vec![refused(context, &error)], None),
        Err(failure) => return (vec![Check::fail("ssh-session", failure.message, reach(peer))], None),
    };
    let mut checks =
        vec![Check::ok("ssh-session", format!("{peer} admits the pair's key and is who it was"))];
    let (owned, through) = (context.clone(), Arc::clone(&far));
    let asked = within(move || {
        let mut client = far_node::greet(&owned, through.open(Word::Agent).map_err(Failure::environment)?)?;
        let state = client.state().map_err(|error| far_node::failure(&error))?;
        let hello = client.peer().clone();
        // it answered: how it ends is no prerequisite
        let _ = client.close();
        Ok((hello, state))
    })
    .await;
    match asked {
        Ok((hello, state)) => checks.extend(agent(context, &hello, &state)),
        Err(failure) => checks.push(Check::fail(
            "agent",
            failure.message,
            format!(
                "install {} on {peer}, for the same distribution, at the path of [ssh] agent",
                context.profile().program
            ),
        )),
    }
    (checks, Some(far))
}

fn connect(context: &Context, peer: IpAddr) -> Result<Arc<dyn Far>, FarError> {
    match &context.way {
        Way::Ssh => {
            let target = SshTarget { connect_timeout: STEP, ..way::ssh_target(context, peer) };
            Ok(Arc::new(Ssh::connect(&target)?))
        }
        Way::Program(argv) => Ok(Arc::new(crate::far::Child::new(argv.clone(), Default::default()))),
    }
}

/// Blocking work whose end is not waited for longer than a person at a terminal would.
pub(super) async fn within<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => Err(Failure::environment(error)),
        Err(_) => Err(Failure::environment(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

fn reach(peer: IpAddr) -> String {
    format!("let this node reach {peer} at the port of [ssh], and see that sshd runs there")
}

fn refused(context: &Context, error: &FarError) -> Check {
    let key = format!("run `{} sync-key`", context.profile().program);
    match error {
        FarError::HostKeyUnknown { .. } => Check::fail("host-key", error.to_string(), key),
        FarError::HostKeyChanged(_) => Check::fail(
            "host-key",
            error.to_string(),
            "find out whether the slave was installed anew; only then remove the line and run `sync-key`",
        ),
        FarError::Key { .. } | FarError::NotAdmitted { .. } => {
            Check::fail("ssh-session", error.to_string(), key)
        }
        FarError::Connect { address, .. } => {
            Check::fail("ssh-session", error.to_string(), reach(address.ip()))
        }
        other => Check::fail(
            "ssh-session",
            other.to_string(),
            "correct what the finding names, and try `sync-key`",
        ),
    }
}

fn agent(context: &Context, hello: &Hello, state: &State) -> Vec<Check> {
    let own = far_node::hello(context);
    let mut checks = vec![Check::ok(
        "agent",
        format!("it answers for {}, generation {}", hello.distribution, state.generation),
    )];
    checks.push(if hello.program == own.program {
        Check::ok("versions", format!("{} on both nodes", own.program))
    } else {
        Check::warn(
            "versions",
            format!("{} here, {} on the slave", own.program, hello.program),
            "install the same version on both nodes, the slave first",
        )
    });
    checks.push(match (state.role, state.active) {
        (Role::Slave, false) => Check::ok("far-role", "it is a slave and does not serve"),
        (Role::Slave, true) => Check::warn(
            "far-role",
            "telephony is active on the slave: nothing is replicated meanwhile",
            "fail back when the master is ready (`failback`), or see `status` for what is in the way",
        ),
        (role, _) => Check::fail(
            "far-role",
            format!("the other node is {role}, not slave: nothing is replicated, and nobody takes over"),
            "run `configure slave` there",
        ),
    });
    checks
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::testing::{Place, level};
    use super::*;

    fn of(program: &str, role: Role, active: bool) -> Vec<Check> {
        let context = Place::new().context();
        let hello = Hello { program: program.to_owned(), ..far_node::hello(&context) };
        let state = State { role, generation: 7, active, datasets: Vec::new() };
        agent(&context, &hello, &state)
    }

    #[test]
    fn another_version_of_the_program_is_told() {
        assert_eq!(level(&of(env!("CARGO_PKG_VERSION"), Role::Slave, false), "versions"), Level::Ok);
        assert_eq!(level(&of("0.0.1", Role::Slave, false), "versions"), Level::Warn);
    }

    #[test]
    fn a_far_end_in_another_role_fails_and_an_active_slave_is_told() {
        assert_eq!(level(&of("1", Role::Slave, false), "far-role"), Level::Ok);
        assert_eq!(level(&of("1", Role::Slave, true), "far-role"), Level::Warn);
        assert_eq!(level(&of("1", Role::Master, true), "far-role"), Level::Fail);
        assert_eq!(level(&of("1", Role::Disabled, false), "far-role"), Level::Fail);
    }

    #[tokio::test]
    async fn a_slave_without_sshd_fails_and_says_what_must_be_reachable() {
        let place = Place::new();
        let mut context = place.context();
        // a port that was free a moment ago
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        context.settings.ssh.port = listener.local_addr().unwrap().port();
        drop(listener);
        let (checks, far) = look(&context, "127.0.0.1".parse().unwrap()).await;
        assert!(far.is_none());
        assert_eq!(level(&checks, "ssh-session"), Level::Fail);
        assert!(checks[0].todo.as_ref().unwrap().contains("sshd"), "{checks:?}");
    }

    #[tokio::test]
    async fn an_agent_that_is_not_installed_fails() {
        let mut context = Place::new().context();
        context.way = Way::Program(vec!["/bin/false".to_owned(), "agent".to_owned()]);
        let (checks, far) = look(&context, "127.0.0.1".parse().unwrap()).await;
        assert!(far.is_some());
        assert_eq!(level(&checks, "agent"), Level::Fail);
    }
}
