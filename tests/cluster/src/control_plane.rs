//! etcd, the API server, and where they are wanted the controller manager and the scheduler.

use crate::{
    Kubectl, Parts, cgroups,
    daemon::Daemon,
    files,
    pki::{Pki, Subject},
    plan, remove,
};
use anyhow::{Result, ensure};
use std::{
    ffi::OsString,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// The API server's port.
pub const API_PORT: u16 = 6443;

/// How long a program of it may take until it answers, on a machine that has other things to do.
const READY: Duration = Duration::from_secs(90);

/// How long one may take to end in peace.
const PATIENCE: Duration = Duration::from_secs(15);

/// Addresses and names of a control plane.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The cluster's name.
    pub name: String,
    /// Where everything listens; the ports are the same everywhere.
    pub address: Ipv4Addr,
    /// More addresses that the API server's certificate holds for.
    pub also_known_as: Vec<String>,
    /// Where the Services' addresses are from.
    pub services: Vec<String>,
    /// Where the pods' addresses are from.
    pub pods: Vec<String>,
}

/// A control plane that runs; a handle.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    settings: Settings,
    parts: Parts,
    pki: Pki,
    directory: PathBuf,
    data: PathBuf,
}

impl ControlPlane {
    pub(crate) fn new(settings: Settings, parts: &Parts) -> Result<Self> {
        let directory = plan::run_directory(&settings.name);
        let pki = Pki::open(&directory.join("pki"))?;
        let data = Path::new(plan::DATA).join(&settings.name);
        Ok(Self { settings, parts: parts.clone(), pki, directory, data })
    }

    /// etcd and an API server without nodes, for a test of this process: RBAC, tokens and admission are as in any
    /// cluster. It is gone with the value.
    pub fn temporary(purpose: &str) -> Result<Temporary> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let name = format!("{purpose}{process}-{number}");
        plan::check_name(&name)?;
        // An address of the loopback that no other process of this kind has, so that the ports are free.
        let [.., high, low] = process.to_be_bytes();
        let address = Ipv4Addr::new(127, 64 + u8::try_from(number % 64)?, high, low.max(1));
        let settings = Settings {
            name: name.clone(),
            address,
            also_known_as: Vec::new(),
            services: vec!["10.96.0.0/16".into()],
            pods: vec!["10.97.0.0/16".into()],
        };
        // Removes what it made also when it does not get far.
        let guard = Removed(name);
        let plane = Self::new(settings, &Parts::find()?)?;
        plane.start_api()?;
        Ok(Temporary { plane, _guard: guard })
    }

    /// The kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.join("admin.kubeconfig")
    }

    /// The address of the API server.
    pub fn server(&self) -> String {
        format!("https://{}:{API_PORT}", self.settings.address)
    }

    /// `kubectl` as an administrator.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.parts, &self.kubeconfig())
    }

    /// Writes a kubeconfig for another user, of a group if one is given, and gives its path.
    pub fn kubeconfig_for(&self, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let name = user.replace([':', '/'], "-");
        self.pki.issue(&Subject { name: &name, user, group, hosts: Vec::new() })?;
        let path = self.directory.join(format!("{name}.kubeconfig"));
        files::write_secret(&path, self.pki.kubeconfig(&name, &self.server())?)?;
        Ok(path)
    }

    /// The key that signs the tokens of service accounts, PEM.
    pub fn token_key(&self) -> PathBuf {
        self.pki.key("tokens")
    }

    pub(crate) fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Starts etcd and the API server where they do not run, and waits until the API answers.
    pub fn start_api(&self) -> Result<()> {
        let admin = self.kubeconfig_for("admin", Some("system:masters"))?;
        debug_assert_eq!(admin, self.kubeconfig());
        let address = self.settings.address.to_string();
        let mut hosts = vec![address, "localhost".into(), "kubernetes".into(), "kubernetes.default".into()];
        hosts.extend(["kubernetes.default.svc".into(), "kubernetes.default.svc.cluster.local".into()]);
        hosts.extend(self.settings.also_known_as.iter().cloned());
        self.pki.issue(&Subject { name: "apiserver", user: "kube-apiserver", group: None, hosts })?;
        let hosts = vec![self.settings.address.to_string()];
        self.pki.issue(&Subject { name: "etcd", user: "etcd", group: None, hosts })?;
        self.kubeconfig_for("kubelet-client", Some("system:masters"))?;

        cgroups::create(&plan::cgroup(&self.settings.name))?;
        self.daemon("etcd").ensure(&self.etcd())?;
        let api = self.daemon("kube-apiserver");
        api.ensure(&self.api_server())?;
        api.wait(READY, || {
            let answer = self.kubectl().run(&["get", "--raw", "/readyz", "--request-timeout=5s"])?;
            ensure!(answer.trim() == "ok", "/readyz: {answer}");
            Ok(())
        })
    }

    /// Stops the API server; etcd goes on, and so do the nodes.
    pub fn stop_api(&self) -> Result<()> {
        self.daemon("kube-apiserver").stop(PATIENCE)
    }

    /// Starts the controller manager and the scheduler where they do not run.
    pub fn start_controllers(&self) -> Result<()> {
        for (name, more) in [("kube-controller-manager", self.controllers()), ("kube-scheduler", Vec::new())]
        {
            let user = format!("system:{name}");
            let kubeconfig = self.kubeconfig_for(&user, None)?;
            let mut command = self.program(name);
            command.extend(flags(&[
                ("kubeconfig", &kubeconfig.display()),
                ("authentication-kubeconfig", &kubeconfig.display()),
                ("authorization-kubeconfig", &kubeconfig.display()),
                ("bind-address", &self.settings.address),
                ("leader-elect", &false),
            ]));
            command.extend(more);
            self.daemon(name).ensure(&command)?;
        }
        Ok(())
    }

    /// Stops the controller manager and the scheduler.
    pub fn stop_controllers(&self) -> Result<()> {
        self.daemon("kube-scheduler").stop(PATIENCE)?;
        self.daemon("kube-controller-manager").stop(PATIENCE)
    }

    /// Its programs that run, and those that do not.
    pub(crate) fn status(&self) -> Result<Vec<(String, bool)>> {
        let names = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
        names.iter().map(|name| Ok(((*name).to_owned(), self.daemon(name).is_running()?))).collect()
    }

    pub(crate) fn daemon(&self, name: &str) -> Daemon {
        let group = format!("{}/control", plan::cgroup(&self.settings.name));
        Daemon::new(&group, &self.directory.join("logs"), "", name)
    }

    fn program(&self, name: &str) -> Vec<OsString> {
        vec![self.parts.path(name).into()]
    }

    fn etcd(&self) -> Vec<OsString> {
        let url = |port: u16| format!("https://{}:{port}", self.settings.address);
        let (certificate, key) = (self.pki.certificate("etcd"), self.pki.key("etcd"));
        let authority = self.pki.authority();
        let mut command = vec!["etcd".into()];
        command.extend(flags(&[
            ("name", &"weft"),
            ("data-dir", &self.data.join("etcd").display()),
            ("listen-client-urls", &url(2379)),
            ("advertise-client-urls", &url(2379)),
            ("listen-peer-urls", &url(2380)),
            ("initial-advertise-peer-urls", &url(2380)),
            ("initial-cluster", &format!("weft={}", url(2380))),
            ("cert-file", &certificate.display()),
            ("key-file", &key.display()),
            ("trusted-ca-file", &authority.display()),
            ("client-cert-auth", &true),
            ("peer-cert-file", &certificate.display()),
            ("peer-key-file", &key.display()),
            ("peer-trusted-ca-file", &authority.display()),
            ("peer-client-cert-auth", &true),
            ("logger", &"zap"),
            ("log-level", &"warn"),
        ]));
        command
    }

    fn api_server(&self) -> Vec<OsString> {
        let authority = self.pki.authority();
        let (certificate, key) = (self.pki.certificate("apiserver"), self.pki.key("apiserver"));
        let (kubelet, kubelet_key) = (self.pki.certificate("kubelet-client"), self.pki.key("kubelet-client"));
        let (etcd, etcd_key) = (self.pki.certificate("etcd"), self.pki.key("etcd"));
        let tokens = self.pki.key("tokens");
        let mut command = self.program("kube-apiserver");
        command.extend(flags(&[
            ("etcd-servers", &format!("https://{}:2379", self.settings.address)),
            ("etcd-cafile", &authority.display()),
            ("etcd-certfile", &etcd.display()),
            ("etcd-keyfile", &etcd_key.display()),
            ("bind-address", &self.settings.address),
            ("advertise-address", &self.settings.address),
            ("secure-port", &API_PORT),
            ("tls-cert-file", &certificate.display()),
            ("tls-private-key-file", &key.display()),
            ("client-ca-file", &authority.display()),
            ("authorization-mode", &"Node,RBAC"),
            ("enable-admission-plugins", &"NodeRestriction"),
            ("service-cluster-ip-range", &self.settings.services.join(",")),
            ("service-account-issuer", &"https://kubernetes.default.svc.cluster.local"),
            ("service-account-key-file", &self.pki.public_key("tokens").display()),
            ("service-account-signing-key-file", &tokens.display()),
            ("kubelet-client-certificate", &kubelet.display()),
            ("kubelet-client-key", &kubelet_key.display()),
            ("kubelet-certificate-authority", &authority.display()),
            ("kubelet-preferred-address-types", &"InternalIP"),
            ("allow-privileged", &true),
            // It is in no network in which a Service's address leads anywhere: webhooks are reached at their pods.
            ("enable-aggregator-routing", &true),
            ("profiling", &false),
        ]));
        if self.settings.address.is_loopback() {
            // Such an address cannot stand in an Endpoints object, and there is nobody to read it.
            command.extend(flags(&[("endpoint-reconciler-type", &"none")]));
        }
        command
    }

    fn controllers(&self) -> Vec<OsString> {
        let (authority, authority_key) = (self.pki.authority(), self.pki.key("ca"));
        flags(&[
            ("use-service-account-credentials", &true),
            ("service-account-private-key-file", &self.pki.key("tokens").display()),
            ("root-ca-file", &authority.display()),
            ("cluster-signing-cert-file", &authority.display()),
            ("cluster-signing-key-file", &authority_key.display()),
            ("allocate-node-cidrs", &false),
            ("cluster-cidr", &self.settings.pods.join(",")),
        ])
    }
}

fn flags(all: &[(&str, &dyn std::fmt::Display)]) -> Vec<OsString> {
    all.iter().map(|(name, value)| format!("--{name}={value}").into()).collect()
}

/// A control plane that is removed with this value.
#[derive(Debug)]
pub struct Temporary {
    plane: ControlPlane,
    _guard: Removed,
}

impl std::ops::Deref for Temporary {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        &self.plane
    }
}

#[derive(Debug)]
struct Removed(String);

impl Drop for Removed {
    fn drop(&mut self) {
        if let Err(error) = remove::remove(&self.0) {
            eprintln!("{}: cleaning up: {error:#}", self.0);
        }
    }
}
