use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::super::Ssh;
use super::super::connection::SocketOptions;
use super::sshd::{Sshd, start};
use crate::far::{Exit, Far, FarError, FarStream, Traffic, Word};

const PATIENCE: Duration = Duration::from_secs(30);

/// A send buffer that holds no whole packet: whatever can be half sent will be.
const NARROW: SocketOptions = SocketOptions { send_buffer: Some(4096) };

fn connect(sshd: &Sshd) -> Ssh {
    Ssh::connect(&sshd.target(&["far"])).unwrap()
}

fn run(ssh: &Ssh, command: &str) -> FarStream {
    ssh.open_command(Word::Agent, command.into()).unwrap()
}

/// Bytes that repeat after no power of two, so that a lost or doubled buffer shows.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index % 251) as u8).collect()
}

/// Sends the data while reading it back.
fn echo(stream: FarStream, data: &[u8]) -> (Vec<u8>, crate::far::FarEnd) {
    let (socket, end) = stream.into_parts();
    let mut back = Vec::with_capacity(data.len());
    thread::scope(|scope| {
        scope.spawn(|| {
            (&socket).write_all(data).unwrap();
            socket.shutdown(std::net::Shutdown::Write).unwrap();
        });
        (&socket).read_to_end(&mut back).unwrap();
    });
    (back, end)
}

#[test]
fn bytes_go_over_and_come_back() {
    let Some(sshd) = start("") else { return };
    let ssh = connect(&sshd);
    let (back, end) = echo(run(&ssh, "cat"), b"over and back");
    assert_eq!(back, b"over and back");
    assert!(end.wait(PATIENCE).unwrap().is_success());
    assert_eq!(ssh.traffic(), Traffic { sent: 13, received: 13 });
}

#[test]
fn a_failing_program_is_quoted() {
    let Some(sshd) = start("") else { return };
    let ssh = connect(&sshd);
    let ending = run(&ssh, "echo out; echo 'disk full' >&2; exit 9").finish(PATIENCE).unwrap();
    assert_eq!((ending.exit, ending.stderr.as_str()), (Exit::Code(9), "disk full\n"));
    let killed = run(&ssh, "kill -TERM $$").finish(PATIENCE).unwrap();
    assert_eq!(killed.exit, Exit::Signal("TERM".into()));
    let (_socket, end) = run(&ssh, "/nonexistent/far agent").into_parts();
    let failed = end.success(PATIENCE).unwrap_err().to_string();
    assert!(failed.starts_with("the far end's agent ended with status 127: "), "{failed}");
}

#[test]
fn much_data_through_narrow_buffers_and_new_keys_arrives_whole() {
    let Some(sshd) = start("RekeyLimit 8M") else { return };
    let ssh = Ssh::connect_with(&sshd.target(&["far"]), NARROW).unwrap();
    let data = pattern(40_000_000);
    let asleep = run(&ssh, "head -c 20000000 /dev/zero; echo slept >&2; exit 4");
    let deaf = run(&ssh, "exec sleep 1000");
    deaf.socket().set_nonblocking(true).unwrap();
    let filler = vec![1; 65536];
    thread::scope(|scope| {
        let echoes: Vec<_> = (0..2).map(|_| scope.spawn(|| echo(run(&ssh, "cat"), &data))).collect();
        // Stuffed all the while: this channel's window is shut and stays so.
        let stuffed = scope.spawn(|| {
            let mut stuffed = 0;
            while stuffed < 1_000_000 {
                match deaf.socket().write(&filler) {
                    Ok(written) => stuffed += written,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        for echo in echoes {
            let (back, end) = echo.join().unwrap();
            assert!(back == data, "{} of {} bytes, or others", back.len(), data.len());
            assert!(end.wait(PATIENCE).unwrap().is_success());
        }
        stuffed.join().unwrap();
    });
    // The sleeper wakes: nothing of its own was lost meanwhile.
    let (mut socket, end) = asleep.into_parts();
    let mut zeros = Vec::new();
    socket.read_to_end(&mut zeros).unwrap();
    assert_eq!(zeros.len(), 20_000_000);
    let ending = end.wait(PATIENCE).unwrap();
    assert_eq!((ending.exit, ending.stderr.as_str()), (Exit::Code(4), "slept\n"));
}

#[test]
fn programs_start_while_others_move_data_over_a_link_that_stutters() {
    let Some(sshd) = start("RekeyLimit 8M") else { return };
    let quick = super::super::SshTarget {
        keepalive: Duration::from_secs(2),
        connect_timeout: Duration::from_secs(5),
        ..sshd.target(&["far"])
    };
    let ssh = Ssh::connect_with(&quick, NARROW).unwrap();
    let data = pattern(10_000_000);
    let moving = AtomicBool::new(true);
    thread::scope(|scope| {
        // Packets stay half sent for as long as the far end reads nothing.
        scope.spawn(|| {
            while moving.load(Ordering::Relaxed) {
                sshd.signal_sessions(Signal::STOP);
                thread::sleep(Duration::from_millis(10));
                sshd.signal_sessions(Signal::CONT);
                thread::sleep(Duration::from_millis(10));
            }
        });
        let echoes: Vec<_> = (0..3).map(|_| scope.spawn(|| echo(run(&ssh, "cat"), &data))).collect();
        for round in 0..20 {
            let (back, end) = echo(run(&ssh, "cat"), &data[..round * 5000]);
            assert!(
                back == data[..round * 5000],
                "round {round}: {} bytes, {:?}",
                back.len(),
                end.wait(PATIENCE)
            );
            assert!(end.wait(PATIENCE).unwrap().is_success());
            drop(run(&ssh, "cat"));
        }
        for echo in echoes {
            assert!(echo.join().unwrap().0 == data);
        }
        moving.store(false, Ordering::Relaxed);
    });
}

#[test]
fn a_cut_link_ends_every_stream_with_its_reason() {
    let Some(sshd) = start("") else { return };
    let ssh = connect(&sshd);
    let streams = [run(&ssh, "cat"), run(&ssh, "cat")];
    sshd.signal_sessions(Signal::KILL);
    for mut stream in streams {
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
        let lost = stream.finish(PATIENCE).unwrap_err();
        assert!(matches!(lost, FarError::Lost { .. }), "{lost}");
    }
    assert!(matches!(ssh.open(Word::Agent), Err(FarError::Lost { .. })));
}

#[test]
fn a_cut_link_is_noticed_while_nothing_is_open() {
    let Some(sshd) = start("") else { return };
    let ssh = connect(&sshd);
    run(&ssh, "true").finish(PATIENCE).unwrap();
    sshd.signal_sessions(Signal::KILL);
    let deadline = Instant::now() + PATIENCE;
    while !ssh.is_lost() {
        assert!(Instant::now() < deadline, "not noticed");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_frozen_far_end_is_noticed_after_three_keepalives() {
    let Some(sshd) = start("") else { return };
    let target = super::super::SshTarget { keepalive: Duration::from_secs(2), ..sshd.target(&["far"]) };
    let ssh = Ssh::connect(&target).unwrap();
    let mut stream = run(&ssh, "cat");
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    sshd.signal_sessions(Signal::STOP);
    let frozen = Instant::now();
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    let lost = stream.finish(PATIENCE).unwrap_err();
    assert!(lost.to_string().contains("no sign of life"), "{lost}");
    assert!(frozen.elapsed() >= Duration::from_secs(5), "{:?}", frozen.elapsed());
}

#[test]
fn an_idle_channel_outlives_many_keepalives() {
    let Some(sshd) = start("") else { return };
    let target = super::super::SshTarget { keepalive: Duration::from_secs(1), ..sshd.target(&["far"]) };
    let ssh = Ssh::connect(&target).unwrap();
    let stream = run(&ssh, "sleep 9; echo done");
    let (mut socket, end) = stream.into_parts();
    let mut said = String::new();
    socket.read_to_string(&mut said).unwrap();
    assert_eq!(said, "done\n");
    assert!(end.wait(PATIENCE).unwrap().is_success());
}

#[test]
fn an_answer_that_was_read_on_behalf_of_another_channel_does_not_lie_there() {
    let Some(sshd) = start("") else { return };
    // no sign of life that would wake the link by the way
    let silent = super::super::SshTarget { keepalive: Duration::from_secs(3600), ..sshd.target(&["far"]) };
    let ssh = Ssh::connect(&silent).unwrap();
    let streams: Vec<FarStream> = (0..4).map(|_| run(&ssh, "exec cat")).collect();
    thread::scope(|scope| {
        for stream in &streams {
            scope.spawn(|| {
                let mut socket = stream.socket();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut back = [0; 8];
                for number in 0..5000_u64 {
                    socket.write_all(&number.to_be_bytes()).unwrap();
                    socket.read_exact(&mut back).unwrap_or_else(|error| panic!("number {number}: {error}"));
                    assert_eq!(u64::from_be_bytes(back), number);
                }
            });
        }
    });
}

#[test]
fn a_program_that_reads_nothing_costs_neither_the_link_nor_the_others() {
    let Some(sshd) = start("") else { return };
    let target = super::super::SshTarget { keepalive: Duration::from_secs(2), ..sshd.target(&["far"]) };
    let ssh = Ssh::connect_with(&target, NARROW).unwrap();
    let deaf = run(&ssh, "exec sleep 1000");
    deaf.socket().set_write_timeout(Some(Duration::from_secs(7))).unwrap();
    // Until its window is shut, and for longer than three keepalives after that.
    let block = vec![1; 65536];
    let full = loop {
        if let Err(error) = deaf.socket().write_all(&block) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    let (back, end) = echo(run(&ssh, "cat"), b"still here");
    assert_eq!(back, b"still here");
    assert!(end.wait(PATIENCE).unwrap().is_success());
    drop(deaf);
    assert!(run(&ssh, "true").finish(PATIENCE).unwrap().is_success());
}

#[test]
fn a_dropped_stream_lets_its_program_go_and_the_session_lives_on() {
    let Some(sshd) = start("") else { return };
    let ssh = connect(&sshd);
    let marker = sshd.path("gone");
    let mut stream = run(&ssh, &format!("echo on; cat >/dev/null; : >{}", marker.display()));
    stream.read_exact(&mut [0; 3]).unwrap();
    drop(stream);
    let deadline = Instant::now() + PATIENCE;
    while !marker.exists() {
        assert!(Instant::now() < deadline, "the program still waits for input");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(run(&ssh, "true").finish(PATIENCE).unwrap().is_success());
}

#[test]
fn a_closed_session_leaves_no_descriptor_and_no_thread() {
    let Some(sshd) = start("") else { return };
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    let before = (count("fd"), count("task"));
    for _ in 0..3 {
        let ssh = connect(&sshd);
        let stream = run(&ssh, "cat");
        run(&ssh, "true").finish(PATIENCE).unwrap();
        drop(ssh);
        assert!(matches!(stream.finish(PATIENCE), Err(FarError::Closed)));
    }
    assert_eq!((count("fd"), count("task")), before);
}

#[test]
fn a_limit_on_the_bandwidth_holds_both_ways() {
    let Some(sshd) = start("") else { return };
    let target = super::super::SshTarget { bandwidth: Some(2_000_000), ..sshd.target(&["far"]) };
    let ssh = Ssh::connect(&target).unwrap();
    let start = Instant::now();
    let data = pattern(4_000_000);
    assert!(echo(run(&ssh, "cat"), &data).0 == data);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(1800), "{took:?}");
}
