//! What the gateway does between a client and a program: streams, upgrades, other replicas, tokens, drains.

use e2e::{Installation, eventually};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// A program that shows how requests reach it.
const PROGRAM: &str = r#"
import http.server, os, socketserver, threading, time
go = threading.Event()
class Server(http.server.ThreadingHTTPServer):
    server_bind = socketserver.TCPServer.server_bind
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass
    def say(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
    def piece(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data)); self.wfile.flush()
    def chunked(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
    def do_GET(self):
        if self.path == "/stream":
            self.chunked()
            self.piece(b"first\n")
            go.wait(30)
            self.piece(b"second\n"); self.piece(b"")
        elif self.path == "/go":
            go.set(); self.say("gone")
        elif self.path == "/slow":
            self.chunked(); self.piece(b"begun\n"); time.sleep(1.5); self.piece(b"done\n"); self.piece(b"")
        elif self.path == "/headers":
            self.say(str(self.headers.get("Authorization")) + " " + str(self.headers.get("X-Forwarded-For")))
        elif self.headers.get("Upgrade") == "websocket":
            self.send_response(101)
            self.send_header("Connection", "Upgrade"); self.send_header("Upgrade", "websocket")
            self.end_headers()
            while data := self.connection.recv(65536): self.connection.sendall(data[::-1])
            self.close_connection = True
        else:
            self.say("pid " + str(os.getpid()))
    def do_POST(self):
        self.chunked()
        while True:
            n = int(self.rfile.readline(), 16)
            data = self.rfile.read(n); self.rfile.readline()
            self.piece(data.upper())
            if n == 0: return
Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

fn app(name: &str, replicas: u32, auth: &str) -> String {
    let spec = serde_json::json!({
        "replicas": replicas,
        "route": {"auth": auth},
        "template": {
            "command": ["python3", "-c", PROGRAM],
            "resources": {"cpu": "200m", "memory": "128Mi"},
            "ports": [{"name": "http"}],
            "probes": {"readiness": {"http": {"path": "/"}, "period": "1s"}},
        },
    });
    format!("apiVersion: moonshot/v1\nkind: App\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn ready(name: &str, replicas: u32, auth: &str) -> Installation {
    let installation = Installation::start(&[]);
    installation.apply(&app(name, replicas, auth));
    installation.wait_for("app", name, &["Ready"], PATIENCE);
    let path = format!("/default/{name}/");
    eventually("the gateway knows the App", PATIENCE, || {
        let (status, _) = installation.ask("GET", &path, "", true);
        status == 200
    });
    installation
}

/// A connection to the gateway after this was sent on it.
fn send(installation: &Installation, text: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(installation.gateway()).expect("the gateway listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
        .write_all(text.as_bytes())
        .expect("it takes requests");
    BufReader::new(stream)
}

/// Reads until the text has come; everything read so far.
fn read_until(stream: &mut BufReader<TcpStream>, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let n = stream.read_line(&mut seen).expect("more comes");
        assert!(n > 0, "the end came before `{text}`: {seen}");
    }
    seen
}

#[test]
fn bodies_are_streamed_both_ways_and_connections_upgraded() {
    let installation = ready("flow", 1, "none");
    // The second half is only written once the first has arrived here.
    let mut answer = send(
        &installation,
        "GET /default/flow/stream HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    read_until(&mut answer, "first\n");
    assert_eq!(
        installation.ask("GET", "/default/flow/go", "", false).1,
        "gone"
    );
    read_until(&mut answer, "second\n");

    // Each piece of a request comes back before the next is sent.
    let mut upload = send(
        &installation,
        "POST /default/flow/up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    for word in ["alpha", "beta", "gamma"] {
        let piece = format!("{:x}\r\n{word}\n\r\n", word.len() + 1);
        upload
            .get_mut()
            .write_all(piece.as_bytes())
            .expect("it takes a piece");
        read_until(&mut upload, &format!("{}\n", word.to_uppercase()));
    }
    upload
        .get_mut()
        .write_all(b"0\r\n\r\n")
        .expect("it takes the end");
    read_until(&mut upload, "0\r\n");

    let mut socket = send(
        &installation,
        "GET /default/flow/socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let head = read_until(&mut socket, "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for bytes in [&b"\x81\x03abc"[..], &[0, 255, 7]] {
        socket.get_mut().write_all(bytes).expect("both ways");
        let mut back = vec![0; bytes.len()];
        socket.read_exact(&mut back).expect("both ways");
        back.reverse();
        assert_eq!(back, bytes);
    }
}

#[test]
fn a_replica_that_dies_costs_no_request_that_was_not_sent_to_it() {
    let installation = ready("pair", 2, "none");
    let ask = || installation.ask("GET", "/default/pair/", "", false);
    let pids = || {
        let answers: std::collections::BTreeSet<String> = (0..8).map(|_| ask().1).collect();
        answers
    };
    eventually("both replicas answer", PATIENCE, || pids().len() == 2);
    let victim = pids().pop_first().expect("an answer").replace("pid ", "");
    installation
        .run(&["exec", "app/pair", "--", "kill", "-9", &victim])
        .ok();
    for n in 0..200 {
        let (status, answer) = ask();
        assert_eq!(status, 200, "request {n}: {answer}");
        assert_ne!(answer, format!("pid {victim}"), "request {n}");
    }
    eventually("it was restarted in place", PATIENCE, || pids().len() == 2);
    let app = installation.get("app", "pair").expect("the App");
    let restarts: u64 = app["status"]["instances"]
        .as_array()
        .expect("instances")
        .iter()
        .map(|instance| instance["restarts"].as_u64().unwrap_or(0))
        .sum();
    assert_eq!(restarts, 1, "{app:#}");
    let reasons = app["status"]["instances"].to_string();
    assert!(reasons.contains("SIGKILL"), "{app:#}");
}

#[test]
fn only_tokens_of_the_app_are_let_through_and_none_is_handed_on() {
    let installation = ready("shut", 1, "token");
    installation.apply(&app("open", 1, "none"));
    installation.wait_for("app", "open", &["Ready"], PATIENCE);
    let token = |app: &str| {
        let made = installation.run(&["token", "route", app]).ok();
        made.trim().to_owned()
    };
    let (good, foreign) = (token("shut"), token("open"));
    let ask = |app: &str, token: Option<&str>| {
        let path = format!("/default/{app}/headers");
        e2e::ask(installation.gateway(), "GET", &path, "", token)
    };
    eventually("the gateway knows the token", PATIENCE, || {
        ask("shut", Some(&good)).0 == 200
    });
    assert_eq!(ask("shut", Some(&good)), (200, "None 127.0.0.1".to_owned()));
    for wrong in [None, Some(foreign.as_str()), Some("moon_wrong")] {
        let (status, answer) = ask("shut", wrong);
        assert!(
            status == 401 && answer.contains("moonshot token route shut"),
            "{answer}"
        );
    }
    // Where the route asks for none, a token is the program's own business.
    eventually("the gateway knows the App", PATIENCE, || {
        ask("open", Some("mine")) == (200, "Bearer mine 127.0.0.1".to_owned())
    });
    // A route's token opens nothing else.
    let (status, _) = e2e::ask(installation.listen(), "GET", "/v1/jobs", "", Some(&good));
    assert_eq!(status, 403);
}

#[test]
fn a_request_in_flight_is_finished_before_its_replica_is_stopped() {
    let installation = ready("slow", 1, "none");
    let mut answer = send(
        &installation,
        "GET /default/slow/slow HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    read_until(&mut answer, "begun\n");
    installation
        .run(&["scale", "app/slow", "--replicas", "0"])
        .ok();
    eventually("its endpoint is out of the table", PATIENCE, || {
        installation.ask("GET", "/default/slow/", "", false).0 == 503
    });
    read_until(&mut answer, "done\n");
    installation.wait_for("app", "slow", &["Stopped"], PATIENCE);
}
