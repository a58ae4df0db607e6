use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
};

fn local() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_taken_port_names_the_flag_that_moves_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = local().args(["--port", &port]).output().unwrap();
    assert!(!output.status.success());
    assert!(output.stdout.is_empty());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("--port") && error.contains(&port), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn it_says_on_standard_error_where_it_listens_and_stops_when_told_to() {
    let flags = ["--port", "0", "--webhook", "c/t=http://localhost:1/secret", "--fault", "get,set-if=unavailable*3"];
    let mut server = local().args(flags).spawn().unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let address = first.split_once("http://").unwrap().1.split_once(": ").unwrap().0;
    let rest: Vec<_> = lines.by_ref().take(4).map(Result::unwrap).collect();
    assert_eq!(rest[..3], ["caches: course-comments", "users: taylor", "webhook: c/t to http://localhost:1"]);
    assert_eq!(rest[3], "fault: get,set-if=unavailable*3");

    let mut connection = TcpStream::connect(address).unwrap();
    connection.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    Command::new("kill").arg(server.id().to_string()).status().unwrap();
    assert!(server.wait().unwrap().success());
    let mut stdout = String::new();
    server.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(stdout, "");
}

#[test]
fn a_fault_that_is_not_known_is_named_with_those_that_are() {
    for (fault, known) in [("gett=drop", "list-push-front"), ("get=dorp", "hang-answer"), ("get", "RPCS=WHAT*COUNT")] {
        let output = local().args(["--fault", fault]).output().unwrap();
        assert!(!output.status.success());
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("--fault") && error.contains(known), "{error}");
    }
}
