//! What must follow telephony to the side that serves: contact centre, media servers, Edge.

use std::net::IpAddr;
use std::time::Duration;

use ha_core::Side;
use ha_core::follow::{ContactCentre, Edge, Followers, MediaServers, Place, Step, Task, Wanted};

use crate::{edge, services};

/// The administration page: wait "for the services to be ready on the target xivo" before anything else.
const SERVICES: &str = "services";
const CC_RESTART: &str = "cc-restart";
const EDGE_FILE: &str = "edge-file";
/// A XiVO starts within the promised five minutes.
const SERVICES_PATIENCE: Duration = Duration::from_secs(300);
/// `docker compose` stops a container within ten seconds, or kills it.
const COMPOSE: Duration = Duration::from_secs(120);
/// xuc is a Java program that reads the whole configuration at its start.
const XUC_PATIENCE: Duration = Duration::from_secs(120);
/// A trunk registers anew within the shortest expiry.
const TRUNK_PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(15);

pub(crate) fn steps(followers: &Followers, side: Side) -> Vec<Step> {
    let Followers { contact_centre, media_servers, edge } = followers;
    let mut steps = Vec::new();
    steps.extend(contact_centre.iter().flat_map(|cc| follow_cc(cc, side)));
    steps.extend(media_servers.iter().flat_map(follow_mds));
    steps.extend(edge.iter().flat_map(|edge| follow_edge(edge, side)));
    if steps.is_empty() { steps } else { std::iter::once(ready()).chain(steps).collect() }
}

fn ready() -> Step {
    let argv = services::PLAN.status.argv.iter().map(|word| (*word).to_owned()).collect();
    Step {
        id: SERVICES.to_owned(),
        says: "wait until this node's services are ready".to_owned(),
        after: Vec::new(),
        place: Place::Here,
        act: None,
        check: Some(run(argv, None, Wanted::Anything)),
        timeout: services::PLAN.status.timeout,
        patience: SERVICES_PATIENCE,
        undo: "nothing was done".to_owned(),
        automatic: true,
    }
}

/// The administration page, CC Deployment: restart xuc, then wait "for the restarted xuc to be ready".
fn follow_cc(cc: &ContactCentre, side: Side) -> Vec<Step> {
    let host = *cc.hosts.of(side);
    let restart = Step {
        id: CC_RESTART.to_owned(),
        says: format!("restart xuc on the {side}'s CC {host}: {}", cc.restart.join(" ")),
        place: Place::There(host),
        act: Some(run(cc.restart.clone(), None, Wanted::Anything)),
        check: None,
        timeout: COMPOSE,
        undo: "a restart needs none; users log in to the CC of the side that serves".to_owned(),
        automatic: cc.automatic,
        ..after(SERVICES)
    };
    let answers = Step {
        id: "cc-answers".to_owned(),
        says: format!("wait until xuc answers on the {side}'s CC {host}"),
        check: Some(Task::Ask { url: cc.answers.replace("{cc}", &in_url(host)) }),
        patience: XUC_PATIENCE,
        undo: format!("nothing was done; on {host}: {}", cc.restart.join(" ")),
        ..after(CC_RESTART)
    };
    let asked = cc.automatic && !cc.answers.is_empty();
    std::iter::once(restart).chain(asked.then_some(answers)).collect()
}

/// The architecture page, XDS: the slave "will register the inter-mds trunk with the other MDS".
fn follow_mds(mds: &MediaServers) -> Vec<Step> {
    let verify = |name: &String| Step {
        id: format!("mds-{name}"),
        says: format!("verify that the trunk to the media server {name} is registered"),
        check: Some(run(
            mds.command.clone(),
            None,
            Wanted::LineWith(vec![name.clone(), mds.registered.clone()]),
        )),
        patience: TRUNK_PATIENCE,
        undo: format!("nothing was done; look at `{}` on this node", mds.command.join(" ")),
        ..after(SERVICES)
    };
    mds.names.iter().map(verify).collect()
}

/// The administration page, Edge Deployment: the four variables, then `edge-dcomp up -d`.
fn follow_edge(edge: &Edge, side: Side) -> Vec<Step> {
    let Some(host) = edge.host else { return Vec::new() };
    let point = Task::Point { path: edge.file.clone(), names: edge::file(edge), to: side };
    let back = format!("`xivo-ha edge switch {}`", side.other());
    let file = Step {
        id: EDGE_FILE.to_owned(),
        says: format!("point {} on the Edge {host} at the {side}", edge.file),
        place: Place::There(host),
        act: Some(point),
        undo: back.clone(),
        automatic: edge.automatic,
        ..after(SERVICES)
    };
    let apply = Step {
        id: "edge-apply".to_owned(),
        says: format!("apply it on the Edge {host}: {}", edge.apply.join(" ")),
        place: Place::There(host),
        act: Some(run(edge.apply.clone(), Some(edge.directory().to_owned()), Wanted::Anything)),
        timeout: COMPOSE,
        undo: back,
        automatic: edge.automatic,
        ..after(EDGE_FILE)
    };
    vec![file, apply]
}

/// What most steps are: short, here, and after that one.
fn after(id: &str) -> Step {
    Step {
        id: String::new(),
        says: String::new(),
        after: vec![id.to_owned()],
        place: Place::Here,
        act: None,
        check: None,
        timeout: SHORT,
        patience: Duration::ZERO,
        undo: String::new(),
        automatic: true,
    }
}

fn run(argv: Vec<String>, directory: Option<String>, output: Wanted) -> Task {
    Task::Run { argv, directory, output }
}

fn in_url(host: IpAddr) -> String {
    if host.is_ipv6() { format!("[{host}]") } else { host.to_string() }
}

#[cfg(test)]
mod tests {
    use ha_core::follow::Sides;

    use super::*;

    fn followers() -> Followers {
        let sides = |master: &str, slave: &str| Sides {
            master: master.parse().unwrap(),
            slave: slave.parse().unwrap(),
        };
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        let cc = sides("10.0.0.21", "2001:db8::22");
        Followers {
            contact_centre: Some(ContactCentre {
                automatic: true,
                hosts: cc,
                restart: words("xivocc-dcomp restart xuc"),
                answers: "http://{cc}:8090/".to_owned(),
            }),
            media_servers: Some(MediaServers {
                names: words("mds1 mds2"),
                command: words("asterisk -rx list"),
                registered: "Registered".to_owned(),
            }),
            edge: Some(Edge {
                automatic: true,
                host: Some([10, 0, 0, 31].into()),
                file: "/etc/docker/edge/.env".to_owned(),
                apply: words("edge-dcomp up -d"),
                xivo: sides("10.0.0.11", "10.0.0.12"),
                cc,
            }),
        }
    }

    #[test]
    fn everything_waits_for_the_services_and_nothing_else_for_another_machine() {
        let order = steps(&followers(), Side::Slave);
        let order: Vec<(&str, String)> =
            order.iter().map(|step| (step.id.as_str(), step.after.join(","))).collect();
        let wanted = [
            ("services", ""),
            ("cc-restart", "services"),
            ("cc-answers", "cc-restart"),
            ("mds-mds1", "services"),
            ("mds-mds2", "services"),
            ("edge-file", "services"),
            ("edge-apply", "edge-file"),
        ];
        assert_eq!(order, wanted.map(|(id, after)| (id, after.to_owned())));
        assert_eq!(steps(&Followers::default(), Side::Master), []);
    }

    #[test]
    fn the_cc_of_the_side_that_serves_is_restarted_and_asked_over_either_family() {
        let there = |side| steps(&followers(), side).swap_remove(1).place;
        assert_eq!(there(Side::Master), Place::There([10, 0, 0, 21].into()));
        let slave = steps(&followers(), Side::Slave);
        assert!(matches!(&slave[2].check, Some(Task::Ask { url }) if url == "http://[2001:db8::22]:8090/"));
        assert_eq!(slave[1].says, "restart xuc on the slave's CC 2001:db8::22: xivocc-dcomp restart xuc");
    }

    #[test]
    fn the_edges_file_is_applied_in_its_directory() {
        let mut beside = followers();
        for (file, wanted) in [("/etc/docker/edge/.env", "/etc/docker/edge"), ("/.env", "/")] {
            beside.edge.as_mut().unwrap().file = file.to_owned();
            let apply = steps(&beside, Side::Slave).pop().and_then(|step| step.act);
            let Some(Task::Run { directory, .. }) = apply else { panic!("{file}") };
            assert_eq!(directory.as_deref(), Some(wanted));
        }
    }

    #[test]
    fn a_cc_that_a_person_restarts_is_not_waited_for() {
        let mut by_hand = followers();
        by_hand.contact_centre.as_mut().unwrap().automatic = false;
        let steps = steps(&by_hand, Side::Slave);
        assert!(!steps[1].automatic && steps.iter().all(|step| step.id != "cc-answers"));
    }

    #[test]
    fn an_unregistered_or_rejected_trunk_is_none() {
        let Some(Task::Run { output, .. }) = &steps(&followers(), Side::Slave)[3].check else { panic!() };
        assert!(output.holds("mds1.example:5060  Y  default  105 Registered\nmds1/sip:x  Registered"));
        for bad in ["mds1 Unregistered", "mds10 Registered", "mds1 Rejected\nmds2 Registered", ""] {
            assert!(!output.holds(bad), "{bad}");
        }
    }
}
