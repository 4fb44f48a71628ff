//! TLS as clients see it: openssl's, Python's, redis-cli's, and one of our own.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use mortise_tests::client::Client;
use mortise_tests::server::{Server, mortise_binary};
use mortise_tests::tls::{self, Certificates};
use mortise_tests::{Reply, check, source, suite};

/// The server runs in this process for the scripts, and asks its allocator how much memory is used.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long another program may take before it is ended.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(60);

/// A server that listens for TLS too, and the certificates that go with it.
struct Secure {
    server: Server,
    certificates: Certificates,
    address: SocketAddr,
}

impl Secure {
    fn start(auth: &str, more: &[&str]) -> Secure {
        let (certificates, port) = (Certificates::create(), tls::free_port());
        let directives = certificates.directives(port, auth);
        let directives: Vec<_> = directives.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let server = Server::start(&directives);
        Secure { server, certificates, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    fn port(&self) -> String {
        self.address.port().to_string()
    }

    fn path(&self, name: &str) -> String {
        self.certificates.path(name).display().to_string()
    }

    /// A connection over TLS that shows a certificate, or none.
    fn connect(&self, identity: Option<&str>) -> Client {
        let address = tls::tunnel(self.address, self.certificates.client(identity)).expect("a tunnel");
        Client::connect(address).expect("the tunnel accepts")
    }

    fn is_let_in(&self, identity: Option<&str>) -> bool {
        matches!(self.connect(identity).call(&["PING"]), Ok(Reply::Simple(pong)) if pong == b"PONG")
    }

    fn set(&self, arguments: &[&str]) -> Reply {
        let mut request = vec!["CONFIG", "SET"];
        request.extend(arguments);
        self.server.connect().call(&request).expect("a reply")
    }

    /// openssl's client, which sends `input` and ends.
    fn openssl(&self, arguments: &[&str], input: &str) -> String {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &self.address.to_string(), "-CAfile", &self.path("ca.crt")]);
        text(run(command.args(["-ign_eof", "-verify_return_error"]).args(arguments), input))
    }

    fn wait_for_log(&self, part: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.server.log().contains(part) {
            assert!(Instant::now() < deadline, "no {part:?} in\n{}", self.server.log());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn run(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // It may have ended already, which its output tells.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let deadline = Instant::now() + PROGRAM_TIMEOUT;
    while child.try_wait().expect("it is our child").is_none() {
        if Instant::now() > deadline {
            // What it has said until now tells why the test fails.
            let _ = child.kill();
        }
        thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output().expect("it has ended")
}

fn text(output: Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn is_error(reply: &Reply, part: &str) -> bool {
    matches!(reply, Reply::Error(text) if String::from_utf8_lossy(text).contains(part))
}

fn is_ok(reply: &Reply) -> bool {
    matches!(reply, Reply::Simple(text) if text == b"OK")
}

#[test]
fn openssl_speaks_every_version_that_is_allowed() {
    let secure =
        Secure::start("no", &["tls-ciphers ECDHE+AESGCM", "tls-ciphersuites TLS_AES_128_GCM_SHA256"]);
    let speak = |arguments: &[&str]| secure.openssl(arguments, "PING\r\nQUIT\r\n");
    for (protocols, version12, version13) in
        [("", true, true), ("TLSv1.2", true, false), ("TLSv1.3", false, true)]
    {
        assert!(is_ok(&secure.set(&["tls-protocols", protocols])), "{protocols}");
        for (version, is_spoken, cipher) in [
            ("-tls1_2", version12, "ECDHE-ECDSA-AES"),
            ("-tls1_3", version13, "Cipher is TLS_AES_128_GCM_SHA256"),
            ("-tls1_1", false, ""),
        ] {
            let said = speak(&[version]);
            assert_eq!(said.contains("+PONG"), is_spoken, "{protocols} {version}: {said}");
            assert!(!is_spoken || said.contains(cipher), "{said}");
        }
    }
    assert!(!speak(&["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"]).contains("+PONG"));
    let refused = secure.set(&["tls-protocols", "TLSv1.1"]);
    assert!(is_error(&refused, "Unable to update TLS configuration. Check server logs."), "{refused:?}");
    secure.wait_for_log("tls-protocols: TLSv1.1 is not supported");
}

#[test]
fn openssl_resumes_sessions_of_both_versions() {
    let secure = Secure::start("no", &[]);
    for version in ["-tls1_2", "-tls1_3"] {
        let session = secure.path("session");
        let first = secure.openssl(&[version, "-sess_out", &session], "PING\r\nQUIT\r\n");
        assert!(first.contains("New, TLS"), "{first}");
        let second = secure.openssl(&[version, "-sess_in", &session], "PING\r\nQUIT\r\n");
        assert!(second.contains("Reused, TLS") && second.contains("+PONG"), "{version} {second}");
        let mut again = Command::new("openssl");
        again.args(["s_client", "-connect", &secure.address.to_string(), version, "-sess_out", &session]);
        run(again.args(["-ign_eof"]), "PING\r\nQUIT\r\n");
        // Whoever could come in before has to show what is asked for now.
        assert!(is_ok(&secure.set(&["tls-auth-clients", "yes"])));
        let refused = secure.openssl(&[version, "-sess_in", &session], "PING\r\nQUIT\r\n");
        assert!(!refused.contains("+PONG"), "{version} {refused}");
        assert!(is_ok(&secure.set(&["tls-auth-clients", "no"])));
    }
}

#[test]
fn pythons_client_finds_what_it_expects() {
    let secure = Secure::start("optional", &["tls-handshake-timeout 1"]);
    let script = source::workspace_root().join("tests/clients/tls.py");
    let folder = secure.certificates.dir().display().to_string();
    let output = run(Command::new("python3").arg(script).args([&secure.port(), &folder]), "");
    assert!(output.status.success(), "{}\n{}", text(output), secure.server.log());
}

#[test]
fn redis_cli_speaks_tls() {
    let secure = Secure::start("yes", &[]);
    let files = ["ca.crt", "client.crt", "client.key"].map(|name| secure.path(name));
    let cli = |arguments: &[&str]| {
        let mut command = Command::new("redis-cli");
        command.args(["--tls", "-p", &secure.port(), "--cacert", &files[0]]);
        text(run(command.args(["--cert", &files[1], "--key", &files[2]]).args(arguments), "SET k v\nGET k\n"))
    };
    assert_eq!(cli(&[]), "OK\nv\n");
}

#[test]
fn clients_show_certificates_as_is_asked_for() {
    for (auth, none, good, wrong) in
        [("yes", false, true, false), ("optional", true, true, false), ("no", true, true, true)]
    {
        let secure = Secure::start(auth, &[]);
        for (identity, is_let_in) in
            [(None, none), (Some("client"), good), (Some("stranger"), wrong), (Some("expired"), wrong)]
        {
            assert_eq!(secure.is_let_in(identity), is_let_in, "{auth} {identity:?}");
        }
        if !wrong {
            secure.wait_for_log("Error accepting a client connection: invalid peer certificate: ");
        }
    }
}

#[test]
fn authorities_may_lie_in_a_folder() {
    let secure = Secure::start("yes", &[]);
    let folder = secure.certificates.dir().join("authorities");
    fs::create_dir(&folder).unwrap();
    fs::copy(secure.certificates.path("ca.crt"), folder.join("first.pem")).unwrap();
    let folder = folder.display().to_string();
    assert!(is_ok(&secure.set(&["tls-ca-cert-file", "", "tls-ca-cert-dir", &folder])));
    assert!(secure.is_let_in(Some("client")) && !secure.is_let_in(Some("stranger")));
}

/// The names on the certificate that the server shows.
fn shown(secure: &Secure) -> String {
    let said = secure.openssl(&[], "QUIT\r\n");
    let subject = said.lines().find(|line| line.starts_with("subject="));
    subject.unwrap_or_else(|| panic!("no subject in {said}")).to_owned()
}

#[test]
fn certificates_are_read_again_when_they_are_set_again() {
    let secure = Secure::start("no", &[]);
    let mut before = secure.connect(None);
    before.call(&["PING"]).unwrap();
    assert!(shown(&secure).contains("server"));

    // Others in the same files.
    secure.certificates.certify("server", |params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "renewed");
    });
    assert!(shown(&secure).contains("server"), "nothing happens by itself");
    assert!(is_ok(&secure.set(&["tls-cert-file", &secure.path("server.crt")])));
    assert!(shown(&secure).contains("renewed"));

    // Other files; the key changes with its certificate, in one command.
    let refused = secure.set(&["tls-cert-file", &secure.path("client.crt")]);
    assert!(is_error(
        &refused,
        "CONFIG SET failed (possibly related to argument 'tls-cert-file') - Unable to update TLS configuration. \
         Check server logs."
    ));
    secure.wait_for_log("server.key: it is not the key to the certificate in ");
    let (cert, key) = (secure.path("client.crt"), secure.path("client.key"));
    assert!(is_ok(&secure.set(&["tls-cert-file", &cert, "tls-key-file", &key])));
    assert!(shown(&secure).contains("client"));

    // What cannot be used changes nothing.
    fs::write(secure.certificates.path("broken.crt"), "no certificate").unwrap();
    for (name, value) in [
        ("tls-cert-file", secure.path("broken.crt")),
        ("tls-cert-file", secure.path("nosuch.crt")),
        ("tls-cert-file", String::new()),
        ("tls-key-file", secure.path("ca.crt")),
        ("tls-ciphers", "nosuch".into()),
        ("tls-dh-params-file", "dh.pem".into()),
    ] {
        let refused = secure.set(&[name, &value]);
        assert!(is_error(&refused, "Unable to update TLS configuration"), "{name} {value}: {refused:?}");
    }
    assert!(shown(&secure).contains("client"));
    check(&secure.server, "
        > CONFIG GET tls-ciphers
        {tls-ciphers: \"\"}
        > CONFIG SET tls-cluster yes
        -ERR CONFIG SET failed (possibly related to argument 'tls-cluster') - Mortise does not have this directive yet
        > CONFIG GET tls-cluster
        {tls-cluster: no}
        > CONFIG SET tls-auth-clients maybe
        -ERR CONFIG SET failed (possibly related to argument 'tls-auth-clients') - argument(s) must be one of the following: no, yes, optional
        > CONFIG REWRITE
        +OK
    ");
    let rewritten = fs::read_to_string(secure.server.dir().join("server.conf")).unwrap();
    assert!(rewritten.contains(&format!("tls-cert-file \"{cert}\"")), "{rewritten}");
    before.call(&["PING"]).expect("connections stay, whatever they began with");
}

#[test]
fn ports_open_close_and_change_places() {
    let secure = Secure::start("no", &[]);
    let (plain, tls) = (secure.server.address().port().to_string(), secure.port());
    let mut client = secure.connect(None);
    let mut set = |arguments: &[&str]| {
        let mut request = vec!["CONFIG", "SET"];
        request.extend(arguments);
        client.call(&request).expect("a reply")
    };
    let taken = set(&["tls-port", &plain]);
    assert!(is_error(&taken, "Unable to listen on this port. Check server logs."), "{taken:?}");
    assert!(secure.is_let_in(None));
    assert!(is_ok(&set(&["port", "0"])));
    assert!(TcpStream::connect(secure.server.address()).is_err() && secure.is_let_in(None));
    assert!(is_ok(&set(&["port", &plain, "tls-port", "0"])));
    assert!(TcpStream::connect(secure.address).is_err());
    // While nobody listens, settings are not looked at; they are when the port opens.
    let cert = secure.path("server.crt");
    assert!(is_ok(&set(&["tls-cert-file", "/no/such.crt"])));
    assert!(is_error(&set(&["tls-port", &tls]), "Unable to update TLS configuration. Check server logs."));
    assert!(is_ok(&set(&["tls-cert-file", &cert, "tls-port", &tls])));
    assert!(secure.is_let_in(None));
    let mut info = secure.connect(None);
    assert!(is_ok(&set(&["port", "0"])));
    let Ok(Reply::Bulk(info)) = info.call(&["INFO", "server"]) else { panic!("no INFO") };
    assert!(String::from_utf8_lossy(&info).contains(&format!("tcp_port:{tls}\r\n")));
}

#[test]
fn what_is_no_tls_is_turned_away() {
    let secure = Secure::start("no", &[]);
    for bytes in [&b"PING\r\n"[..], b"*1\r\n$4\r\nPING\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", &[0; 100]]
    {
        let mut stream = TcpStream::connect(secure.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // It may be reset, since it has sent what nobody reads.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.first().is_none_or(|first| *first == 21), "an alert, or nothing: {answer:?}");
    }
    secure.wait_for_log("Error accepting a client connection: received corrupt message of type");
    check(
        &secure.server,
        "
        > PING
        +PONG
    ",
    );
}

#[test]
fn half_open_handshakes_end_and_do_not_stand_in_the_way() {
    let secure = Secure::start("no", &["tls-handshake-timeout 1", "tls-handshakes-max 5", "maxclients 10"]);
    let stalled: Vec<_> = (0..40)
        .map(|number| {
            let mut stream = TcpStream::connect(secure.address).unwrap();
            // Some say nothing, and some the beginning of something.
            stream.write_all(&[22, 3, 1, 2, 0, 1, 0][..number % 8]).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream
        })
        .collect();
    // Whoever means it is let in at once, and nobody of the others is a client.
    assert!(secure.is_let_in(None));
    check(
        &secure.server,
        "
        > DBSIZE
        :0
    ",
    );
    let Ok(Reply::Bulk(list)) = secure.server.connect().call(&["CLIENT", "LIST"]) else { panic!("no list") };
    assert!(String::from_utf8_lossy(&list).lines().count() <= 3, "{}", String::from_utf8_lossy(&list));
    let begun = Instant::now();
    for mut stream in stalled {
        let ended = stream.read(&mut [0; 64]);
        let is_end = match &ended {
            Ok(len) => *len == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        };
        assert!(is_end, "{ended:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    secure.wait_for_log("Error accepting a client connection: the handshake takes too long");
}

#[test]
fn too_many_clients_are_told_so() {
    let secure = Secure::start("no", &["maxclients 2"]);
    let mut clients = [secure.connect(None), secure.connect(None)];
    for client in &mut clients {
        client.call(&["PING"]).unwrap();
    }
    let reply = secure.connect(None).receive().unwrap();
    assert!(is_error(&reply, "ERR max number of clients reached"), "{reply:?}");
    drop(clients);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !secure.is_let_in(None) {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn values_of_a_megabyte_and_long_pipelines_pass() {
    let secure = Secure::start("no", &[]);
    let mut client = secure.connect(None);
    let value: Vec<u8> = (0..1 << 20).map(|at: u32| (at * 31 % 251) as u8).collect();
    assert!(is_ok(&client.call(&[b"SET".as_slice(), b"big", &value]).unwrap()));
    let Ok(Reply::Bulk(got)) = client.call(&["GET", "big"]) else { panic!("no value") };
    assert!(got == value);
    // Sixty-four megabytes wait for who reads them late; what waits is not encrypted ahead of time.
    for _ in 0..64 {
        client.send(&["GET", "big"]).unwrap();
    }
    thread::sleep(Duration::from_millis(200));
    for _ in 0..64 {
        let Ok(Reply::Bulk(got)) = client.receive() else { panic!("no value") };
        assert!(got == value);
    }
    let mut requests = Vec::new();
    for number in 0..20_000 {
        requests.extend(mortise_tests::client::request(&["ECHO", &number.to_string()]));
    }
    client.send_raw(&requests).unwrap();
    for number in 0..20_000 {
        assert!(
            matches!(client.receive().unwrap(), Reply::Bulk(text) if text == number.to_string().into_bytes())
        );
    }
}

#[test]
fn messages_reach_many_subscribers() {
    let secure = Secure::start("no", &["io-threads 2"]);
    let mut subscribers: Vec<_> = (0..100).map(|_| secure.connect(None)).collect();
    for subscriber in &mut subscribers {
        subscriber.call(&["SUBSCRIBE", "news"]).unwrap();
    }
    let mut publisher = secure.connect(None);
    for number in 0..50 {
        let reply = publisher.call(&["PUBLISH", "news", &number.to_string()]).unwrap();
        assert!(matches!(reply, Reply::Integer(100)), "{reply:?}");
    }
    for subscriber in &mut subscribers {
        for number in 0..50 {
            let Reply::Array(parts) = subscriber.receive().unwrap() else { panic!("no message") };
            let text = number.to_string().into_bytes();
            assert!(matches!(&parts[2], Reply::Bulk(got) if *got == text), "{parts:?}");
        }
    }
}

#[test]
fn a_server_without_tls_certificates_does_not_start() {
    let certificates = Certificates::create();
    let binary: PathBuf = mortise_binary().expect("it is built");
    let port = tls::free_port();
    let good = certificates.directives(port, "yes");
    let path = |name: &str| certificates.path(name).display().to_string();
    for (directive, reason) in [
        ("tls-cert-file /no/such.crt".to_owned(), "Failed to load certificate: /no/such.crt: No such file"),
        ("tls-cert-file \"\"".into(), "No tls-cert-file configured!"),
        (
            format!("tls-key-file {}", path("client.key")),
            "client.key: it is not the key to the certificate in",
        ),
        (format!("tls-ca-cert-file {}", path("ca.key")), "Failed to configure CA certificate(s)"),
        ("tls-protocols TLSv9".into(), "Invalid tls-protocols specified ('TLSv9')"),
        ("tls-ciphers nosuch".into(), "'nosuch' is unknown or not supported"),
        ("tls-dh-params-file dh.pem".into(), "tls-dh-params-file (dh.pem): "),
        ("tls-cluster yes".into(), "Mortise does not have this directive yet"),
    ] {
        let directives: Vec<_> = good.iter().chain([&directive]).map(String::as_str).collect();
        let error = Server::start_binary(&binary, &directives).map(|_| ()).unwrap_err();
        assert!(error.contains(reason), "{directive}: {error}");
    }
    // The same settings without a port for TLS are nobody's affair.
    drop(Server::start(&["tls-cert-file /no/such.crt"]));
}

#[test]
fn keys_of_every_kind_are_read() {
    let secure = Secure::start("no", &[]);
    let openssl = |arguments: &str| {
        let output = run(
            Command::new("openssl").current_dir(secure.certificates.dir()).args(arguments.split(' ')),
            "",
        );
        assert!(output.status.success(), "{arguments}: {}", text(output));
    };
    openssl("genrsa -out rsa.key 2048");
    openssl("ecparam -name secp384r1 -genkey -noout -out p384.key");
    openssl("ecparam -name secp521r1 -genkey -noout -out p521.key");
    openssl("genpkey -algorithm ed25519 -out ed25519.key");
    openssl("rsa -in rsa.key -traditional -out pkcs1.key");
    openssl("pkcs8 -topk8 -in rsa.key -passout pass:secret -out locked.key");
    openssl("pkcs8 -topk8 -in rsa.key -passout pass:secret -scrypt -out scrypt.key");
    for (cert, key) in [
        ("rsa", "rsa"),
        ("p384", "p384"),
        ("p521", "p521"),
        ("ed25519", "ed25519"),
        ("rsa", "pkcs1"),
        ("rsa", "locked"),
        ("rsa", "scrypt"),
    ] {
        openssl(&format!("req -x509 -key {cert}.key -days 30 -subj /CN={cert} -out {cert}.crt"));
        let (cert_file, key_file) = (secure.path(&format!("{cert}.crt")), secure.path(&format!("{key}.key")));
        let set = |pass: &str| {
            secure.set(&["tls-cert-file", &cert_file, "tls-key-file", &key_file, "tls-key-file-pass", pass])
        };
        if ["locked", "scrypt"].contains(&key) {
            for wrong in ["", "wrong"] {
                assert!(is_error(&set(wrong), "Unable to update TLS configuration"), "{key} {wrong}");
            }
        }
        let reply = set("secret");
        assert!(is_ok(&reply), "{key}: {reply:?}\n{}", secure.server.log());
        let mut command = Command::new("openssl");
        command.args([
            "s_client",
            "-connect",
            &secure.address.to_string(),
            "-CAfile",
            &cert_file,
            "-ign_eof",
        ]);
        let said = text(run(&mut command, "PING\r\nQUIT\r\n"));
        assert!(said.contains("+PONG") && said.contains("Verify return code: 0 (ok)"), "{cert}: {said}");
    }
    // `openssl x509 -req` without extensions makes certificates of version 1.
    openssl("req -new -key rsa.key -subj /CN=old -out old.csr");
    openssl("x509 -req -in old.csr -CA rsa.crt -CAkey rsa.key -CAcreateserial -days 30 -out old.crt");
    let old = secure.path("old.crt");
    assert!(is_ok(&secure.set(&["tls-cert-file", &old, "tls-key-file", &secure.path("rsa.key")])));
    assert!(is_error(&secure.set(&["tls-key-file", &secure.path("p384.key")]), "Unable to update"));
}

#[test]
fn every_script_holds_over_tls() {
    suite::run_over_tls(&suite::scripts_folder());
}
