//! The proxies, and what each is told to do.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::process::Running;

/// One that is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Proxy {
    /// The `gateway` program.
    Gateway,
    /// Debian's.
    HaProxy,
    /// Debian's.
    Nginx,
    /// The smallest proxy on `pingora-proxy`.
    Pingora,
    /// hyper and a list of open connections.
    Hyper,
}

/// What a proxy does besides passing requests on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Setup {
    /// Routing, balancing, breaker, metrics, request id, as far as it has them.
    Basic,
    /// And rate limit, CORS, security headers, access log.
    Full,
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `gateway`, as released.
    pub gateway: PathBuf,
    /// The folder of `pingora` and `hyper`.
    pub peers: PathBuf,
    /// For settings and logs; removed by whoever made it.
    pub folder: PathBuf,
}

/// The upstream's two addresses.
const UPSTREAM: [u16; 2] = [19_480, 19_481];

/// Where proxies listen; one at a time.
const LISTEN: u16 = 19_482;

const PROXY_CORE: usize = 0;
/// The core of the load and of the upstream.
pub const LOAD_CORE: usize = 1;

/// Where a proxy listens.
#[must_use]
pub fn listen() -> SocketAddr {
    at(LISTEN)
}

/// Where the upstream listens.
#[must_use]
pub fn upstream() -> SocketAddr {
    at(UPSTREAM[0])
}

/// An address on loopback.
fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

impl Proxy {
    /// All, ours first.
    pub const ALL: [Self; 5] = [
        Self::Gateway,
        Self::HaProxy,
        Self::Nginx,
        Self::Pingora,
        Self::Hyper,
    ];

    /// As the table calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway-kit",
            Self::HaProxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Pingora => "Pingora",
            Self::Hyper => "bare hyper",
        }
    }
}

impl Programs {
    /// Starts the upstream, an nginx that serves `/small` (128 bytes) and `/large` (100 KiB).
    ///
    /// # Errors
    ///
    /// It does not start, or the folder cannot be written to.
    pub fn upstream(&self) -> Result<Running, String> {
        let www = self.folder.join("www");
        let files = fs::create_dir_all(&www)
            .and_then(|()| fs::write(www.join("large"), vec![b'x'; 100 * 1024]));
        files.map_err(|error| format!("{}: {error}", www.display()))?;
        let listen = UPSTREAM.map(|port| format!("listen 127.0.0.1:{port};"));
        let (listen, www) = (listen.concat(), www.display());
        let small = "x".repeat(128);
        let server = format!(
            "server {{ {listen} default_type text/plain;
            location = /small {{ return 200 \"{small}\"; }}
            location / {{ root {www}; }} }}"
        );
        let file = self.write("upstream.conf", &self.nginx("upstream", &server))?;
        let arguments = ["-c".to_owned(), file.display().to_string()];
        let log = self.folder.join("upstream.log");
        Running::start(LOAD_CORE, Path::new("nginx"), &arguments, &log, upstream())
    }

    /// Starts a proxy; `None` if it cannot do what is asked.
    ///
    /// # Errors
    ///
    /// It does not start, or the folder cannot be written to.
    pub fn start(&self, proxy: Proxy, setup: Setup) -> Result<Option<Running>, String> {
        let path = |file: PathBuf| file.display().to_string();
        let (program, arguments) = match proxy {
            Proxy::Gateway => {
                let file = self.write("gateway.toml", &gateway(setup))?;
                (
                    self.gateway.clone(),
                    vec!["--config".to_owned(), path(file)],
                )
            }
            Proxy::HaProxy => {
                let file = self.write("haproxy.cfg", &haproxy(setup))?;
                (PathBuf::from("haproxy"), vec!["-f".to_owned(), path(file)])
            }
            Proxy::Nginx => {
                let file = self.write("nginx.conf", &self.nginx("nginx", &nginx_proxy(setup)))?;
                (PathBuf::from("nginx"), vec!["-c".to_owned(), path(file)])
            }
            Proxy::Pingora | Proxy::Hyper => {
                // Pingora has none of what is added, and is measured as it is.
                let program = match (proxy, setup) {
                    (Proxy::Pingora, _) => "pingora",
                    (_, Setup::Basic) => "hyper",
                    (_, Setup::Full) => return Ok(None),
                };
                let addresses = [LISTEN, UPSTREAM[0], UPSTREAM[1]].map(at);
                let arguments = addresses.map(|address| address.to_string());
                (self.peers.join(program), arguments.to_vec())
            }
        };
        let log = self.folder.join(format!("{}.log", proxy.name()));
        Running::start(PROXY_CORE, &program, &arguments, &log, listen()).map(Some)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let file = self.folder.join(name);
        let failed = |error: io::Error| format!("{}: {error}", file.display());
        fs::write(&file, text).map_err(failed)?;
        Ok(file)
    }

    /// An nginx of one process that leaves nothing outside of the folder.
    fn nginx(&self, name: &str, inside: &str) -> String {
        let folder = self.folder.join(name);
        let folder = folder.display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {folder}-{kind};"));
        let temporary = temporary.concat();
        format!(
            "daemon off; master_process off; pid {folder}.pid; error_log {folder}.error;
            events {{ worker_connections 1024; }}
            http {{ access_log off; sendfile on; tcp_nopush on; keepalive_timeout 300s;
            keepalive_requests 1000000000; {temporary}
            {inside} }}"
        )
    }
}

/// Below every rate limit: what is measured is looking, not refusing.
const RATE: u32 = 1_000_000;

fn gateway(setup: Setup) -> String {
    let endpoints = UPSTREAM.map(|port| format!("\"http://127.0.0.1:{port}\""));
    let endpoints = endpoints.join(", ");
    let basic = format!(
        "listen = \"127.0.0.1:{LISTEN}\"
        [[route]]
        prefix = \"/small\"
        upstream = \"shop\"
        [[route]]
        prefix = \"/large\"
        upstream = \"shop\"
        [upstream.shop]
        endpoints = [{endpoints}]
        max_idle = 128
        breaker = {{ consecutive_failures = 5, reset_timeout = \"30s\" }}
        "
    );
    let more = match setup {
        Setup::Basic => "[log]\nlevel = \"warn\"\n".to_owned(),
        Setup::Full => format!(
            "[rate_limit]\nrequests = {RATE}\nwindow = \"1s\"
            [cors]\norigins = [\"https://shop.example\"]
            [security_headers]\n[log]\nlevel = \"info\"\n"
        ),
    };
    basic + &more
}

fn haproxy(setup: Setup) -> String {
    let [one, other] = UPSTREAM;
    let full = match setup {
        Setup::Basic => String::new(),
        Setup::Full => format!(
            "log stdout format raw local0
  option httplog
  stick-table type ip size 100k expire 60s store http_req_rate(1s)
  http-request track-sc0 src
  http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {RATE} }}
  http-response set-header strict-transport-security max-age=31536000
  http-response set-header x-content-type-options nosniff
  http-response set-header x-frame-options DENY
  http-response set-header referrer-policy no-referrer
  http-response set-header access-control-allow-origin https://shop.example
  http-response set-header vary origin\n"
        ),
    };
    format!(
        "global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout connect 1s
  timeout client 30s
  timeout server 30s
frontend in
  bind 127.0.0.1:{LISTEN}
  unique-id-format %{{+X}}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header x-correlation-id
  option forwardfor
  {full}
  use_backend shop if {{ path_beg /small }} || {{ path_beg /large }}
backend shop
  balance roundrobin
  http-reuse always
  default-server observe layer7 error-limit 50 on-error mark-down check inter 10s
  server a 127.0.0.1:{one}
  server b 127.0.0.1:{other}
"
    )
}

fn nginx_proxy(setup: Setup) -> String {
    let servers = UPSTREAM.map(|port| format!("server 127.0.0.1:{port};"));
    let servers = servers.concat();
    let (limit, full) = match setup {
        Setup::Basic => (String::new(), ""),
        // As many as nginx can count, and as many at once as a second brings.
        Setup::Full => (
            format!("limit_req_zone $binary_remote_addr zone=one:10m rate={RATE}r/s;"),
            "limit_req zone=one burst=100000 nodelay; access_log /dev/stdout combined;
            add_header strict-transport-security max-age=31536000;
            add_header x-content-type-options nosniff;
            add_header x-frame-options DENY; add_header referrer-policy no-referrer;
            add_header access-control-allow-origin https://shop.example;
            add_header vary origin;",
        ),
    };
    format!(
        "{limit} upstream shop {{ {servers} keepalive 128; keepalive_requests 1000000000; }}
        server {{ listen 127.0.0.1:{LISTEN}; {full}
        location ~ ^/(small|large) {{ proxy_pass http://shop; proxy_http_version 1.1;
        proxy_set_header connection \"\"; proxy_set_header x-correlation-id $request_id;
        proxy_set_header x-forwarded-for $proxy_add_x_forwarded_for;
        add_header x-correlation-id $request_id; }} }}"
    )
}
