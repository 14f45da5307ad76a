//! A role change that is killed at any point is finished by the next one, and undone by `configure disabled`.

use ha_tests::{Host, Pair, Product, Settings};

/// Files that only a slave has.
fn slaves_own(product: Product) -> Vec<&'static str> {
    product.sentinel.into_iter().chain(["/etc/cron.d/xivo-ha-slave"]).collect()
}

/// A free host with PostgreSQL's files, whose restart is only pretended: it would take most of the time.
fn free_node(product: Product) -> Option<Pair> {
    let settings = Settings::modern()
        .with("", "preset", "\"seed\"")
        .with("replication", "database_transport", "\"tcp\"")
        .with("postgres", "remote", "\"host={peer} user=postgres dbname=asterisk\"");
    let pair = Pair::of(product).settings(settings).unconfigured().up()?;
    pair.lab
        .sh(
            Host::Slave,
            "echo 'exit 0' > /run/lab/on/systemctl; rm -rf /etc/postgresql/*; mkdir -p /etc/postgresql/15/main
            cd /etc/postgresql/15/main; echo 'local all all peer' > pg_hba.conf
            printf \"#listen_addresses = 'localhost'\\nlisten_addresses = '127.0.0.1'\\nport = 5432\\n\" > postgresql.conf",
        )
        .ok();
    Some(pair)
}

fn killed_at_every(product: Product, calls: &str) {
    let Some(pair) = free_node(product) else { return };
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/killed.sh");
    let said = pair.lab.exec(Host::Slave, &[tool, product.name, calls]).ok();
    let last = said.lines().last().unwrap_or_default();
    let kills: u32 = last.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0);
    assert!(last.ends_with(" 0 different"), "{said}");
    assert!(kills >= 3, "there are at least as many points as files to change: {said}");
    let kept = pair.lab.sh(
        Host::Slave,
        "grep -c \"^listen_addresses = '127.0.0.1'\" /etc/postgresql/15/main/postgresql.conf",
    );
    assert_eq!(kept.ok().trim(), "1", "the administrator's own line is back");
}

fn a_role_change_killed_at_any_rename_is_finished_by_the_next(product: Product) {
    killed_at_every(product, "rename,renameat,renameat2,linkat");
}

fn a_role_change_killed_at_any_sync_is_finished_by_the_next(product: Product) {
    killed_at_every(product, "fsync,fdatasync");
}

fn a_role_change_killed_at_any_removal_is_finished_by_the_next(product: Product) {
    let Some(pair) = free_node(product) else { return };
    // the other way round: what is removed on the way from slave to disabled
    let of_slaves = slaves_own(product);
    let script = format!(
        "for i in $(seq 200); do
            {0} configure slave --remote 10.77.0.11 >/dev/null || exit 1
            strace -f -qq -o /dev/null -e trace=unlink,unlinkat -e inject=unlink,unlinkat:signal=SIGKILL:when=$i \
                {0} configure disabled >/dev/null 2>&1 && {{ echo $((i - 1)); exit 0; }}
            {0} configure disabled >/dev/null || exit 2
            for file in {1}; do [ -e $file ] && {{ echo \"$i: $file\" >&2; exit 3; }}; done
            grep -q 'listen_addresses = .\\*' /etc/postgresql/15/main/postgresql.conf && exit 4
            grep -q 10.77.0.11 /etc/postgresql/15/main/pg_hba.conf && exit 5
        done; exit 6",
        product.program,
        of_slaves.join(" ")
    );
    let kills: usize = pair.lab.sh(Host::Slave, &script).ok().trim().parse().expect("the count of kills");
    assert!(kills >= of_slaves.len(), "these at least are removed: {of_slaves:?}, {kills}");
}

fn a_dry_run_of_a_role_change_says_what_it_would_do_and_does_nothing(product: Product) {
    let Some(pair) = free_node(product) else { return };
    let tree = format!(
        "find /etc/xivo /etc/cron.d /etc/postgresql {} -printf '%p %T@ %s\\n' | sort; cat /run/lab/calls.log",
        product.state
    );
    let before = pair.lab.sh(Host::Slave, &tree).ok();
    let ran = pair.ha(Host::Slave, "configure slave --remote 10.77.0.11 --dry-run").exits(0);
    ran.says(&["/etc/xivo/ha.conf", "pg_hba.conf"]).says(&slaves_own(product));
    assert_eq!(pair.lab.sh(Host::Slave, &tree).ok(), before);
}

fn an_address_that_cannot_be_the_peers_is_refused_with_a_sentence(product: Product) {
    let Some(pair) = free_node(product) else { return };
    for bad in
        ["host.example", "10.77.0.12", "127.0.0.1", "::1", "224.0.0.1", "ff02::1", "fe80::1%eth0", "0.0.0.0"]
    {
        let ran = pair.ha(Host::Slave, &format!("configure slave --remote '{bad}'")).exits(2);
        ran.says(&[bad]);
    }
    pair.ha(Host::Slave, "configure primary --remote 10.77.0.11").exits(2);
    assert!(!pair.lab.disk(Host::Slave, "/etc/xivo/ha.conf").exists());
}

for_every_product! {
    a_role_change_killed_at_any_rename_is_finished_by_the_next,
    a_role_change_killed_at_any_sync_is_finished_by_the_next,
    a_role_change_killed_at_any_removal_is_finished_by_the_next,
    a_dry_run_of_a_role_change_says_what_it_would_do_and_does_nothing,
    an_address_that_cannot_be_the_peers_is_refused_with_a_sentence,
}
