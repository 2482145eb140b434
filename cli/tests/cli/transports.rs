//! TLS, WebSocket, Unix sockets.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use crate::support::{Broker, mqtt};

/// A directory with certificates in it: of an authority, a server, and a client.
fn certificates() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: String| {
        fs::write(directory.path().join(name), text).expect("a file");
    };
    let key = || KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([]).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, key()).expect("an authority");
    write("ca.pem", authority.pem());
    for (name, host) in [("server", "localhost"), ("client", "somebody")] {
        let key = key();
        let params = CertificateParams::new([host.to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &authority).expect("a certificate");
        write(&format!("{name}.pem"), certificate.pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
    directory
}

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).to_str().expect("a name").to_owned()
}

/// A URL's port.
fn port(url: &str) -> &str {
    url.rsplit(':').next().and_then(|rest| rest.split('/').next()).expect("a port")
}

#[test]
fn clients_come_by_tls_with_their_certificates() {
    let directory = certificates();
    let settings = "\
listen = ['mqtts://127.0.0.1:0', 'wss://127.0.0.1:0/mqtt']
[tls]
certificate = 'server.pem'
key = 'server.key'
client-ca = 'ca.pem'
";
    let config = path(directory.path(), "broker.toml");
    fs::write(&config, settings).expect("a file");
    let broker = Broker::start(&["--config", &config], 2);
    let file = |name| path(directory.path(), name);
    let (ca, cert, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let trust = ["--cafile", &ca];
    let identity = ["--cert", &cert, "--key", &key];
    let (tls, wss) = (port(&broker.urls[0]), port(&broker.urls[1]));
    let url = format!("wss://localhost:{wss}/mqtt");
    let servers = [vec!["-h", "localhost", "-p", tls], vec!["-L", &url]];
    for server in &servers {
        let message = ["pub", "-t", "a", "-m", "unseen", "-r", "-q", "1"];
        mqtt(&[&message[..], server, &trust, &identity].concat()).ok();
        let came = mqtt(&[&["sub", "-t", "a", "-C", "1"], &server[..], &trust, &identity].concat());
        assert_eq!(came.ok(), "unseen\n");
        // Who is not known, or does not know the server.
        let ran = mqtt(&[&message[..], server, &trust].concat());
        assert_ne!(ran.code, 0, "{ran:?}");
        let other = certificates();
        let ca = path(other.path(), "ca.pem");
        mqtt(&[&message[..], server, &["--cafile", &ca], &identity].concat()).fails(8);
    }
}

/// With certificates of clients a public address is not open to everybody.
#[test]
fn certificates_say_who_clients_are() {
    let directory = certificates();
    let config = path(directory.path(), "broker.toml");
    for (demand, is_fine) in [("required", true), ("optional", false)] {
        let settings = format!(
            "listen = ['mqtts://0.0.0.0:0']\n[tls]\ncertificate = 'server.pem'\nkey = 'server.key'\n\
             client-ca = 'ca.pem'\nclient-certificate = '{demand}'"
        );
        fs::write(&config, settings).expect("a file");
        if is_fine {
            Broker::start(&["--config", &config], 1);
        } else {
            let error = mqtt(&["broker", "--config", &config]).fails(1);
            assert!(error.contains(":1: listen.0: "), "{error}");
        }
    }
    let settings = "[tls]\ncertificate = 'server.pem'\nkey = 'client.key'\n";
    fs::write(&config, settings).expect("a file");
    let error = mqtt(&["broker", "--config", &config]).fails(1);
    assert!(error.contains(":3: tls.key: "), "{error}");
}

#[test]
fn clients_come_by_websocket_and_unix_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = path(directory.path(), "mqtt sock");
    let unix = format!("unix://{}", socket.replace(' ', "%20"));
    let broker = Broker::start(&["--listen", "ws://127.0.0.1:0/mqtt", "--listen", &unix], 2);
    let listener = broker.listen(&["-t", "a", "-C", "2"]);
    mqtt(&["pub", "--unix", &socket, "-t", "a", "-m", "one", "-q", "1"]).ok();
    mqtt(&["pub", "-L", &unix, "-t", "a", "-m", "two", "-q", "1"]).ok();
    assert_eq!(listener.ok(), "one\ntwo\n");
    let elsewhere = broker.urls[0].replace("/mqtt", "/other");
    mqtt(&["pub", "-L", &elsewhere, "-t", "a", "-m", "x"]).fails(14);
}
