//! Command lines of the control plane's programs.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Options;
use super::addresses::{API_PORT, CONTROL_PLANE, PODS, REGISTRY_PORT, SERVICES};
use super::pki::Pki;
use crate::site::process::Program;

/// Where programs, keys and logs are.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    /// Directory of the programs.
    pub(super) tools: &'a Path,
    /// Data of this run.
    pub(super) data: &'a Path,
    /// Keys.
    pub(super) pki: &'a Pki,
}

impl Layout<'_> {
    fn program(&self, name: &str) -> Program {
        Program::new(name, self.tools.join(name), self.log(name))
    }

    /// Log file of a program.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.data.join("logs").join(format!("{name}.log"))
    }

    /// etcd, forgetful: nothing is synced, and its directory is a tmpfs.
    pub(super) fn etcd(&self) -> Program {
        self.program("etcd").arg("--data-dir").arg(self.data.join("etcd")).args([
            "--unsafe-no-fsync",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--quota-backend-bytes=1073741824",
            "--log-level=warn",
        ])
    }

    /// The API server, with the authorizers and the admission that a hardened cluster has.
    pub(super) fn api_server(&self) -> Program {
        let mut program = self.program("kube-apiserver").args([
            "--etcd-servers=http://127.0.0.1:2379",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--enable-bootstrap-token-auth",
            "--anonymous-auth=false",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--kubelet-preferred-address-types=InternalIP",
            "--profiling=false",
        ]);
        program = program.arg(format!("--secure-port={API_PORT}"));
        program = program.arg(format!("--advertise-address={CONTROL_PLANE}"));
        program = program.arg(format!("--service-cluster-ip-range={SERVICES}"));
        for (flag, file) in [
            ("client-ca-file", "ca.crt"),
            ("tls-cert-file", "kube-apiserver.crt"),
            ("tls-private-key-file", "kube-apiserver.key"),
            ("kubelet-certificate-authority", "ca.crt"),
            ("kubelet-client-certificate", "kubelet-client.crt"),
            ("kubelet-client-key", "kubelet-client.key"),
            ("service-account-key-file", "service-accounts.pub"),
            ("service-account-signing-key-file", "service-accounts.key"),
        ] {
            program = program.arg(self.flag(flag, file));
        }
        program
    }

    /// All controllers, and those which a bootstrap needs.
    pub(super) fn controller_manager(&self, options: &Options) -> Program {
        let mut program = self.program("kube-controller-manager").args([
            "--controllers=*,bootstrap-signer-controller,token-cleaner-controller",
            "--use-service-account-credentials",
            "--allocate-node-cidrs",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--profiling=false",
        ]);
        program = program.arg(format!("--cluster-cidr={PODS}"));
        program = program.arg(format!("--service-cluster-ip-range={SERVICES}"));
        program = program.arg(format!("--node-cidr-mask-size={}", options.node_cidr_mask_size));
        for (flag, file) in [
            ("kubeconfig", "kube-controller-manager.conf"),
            ("authentication-kubeconfig", "kube-controller-manager.conf"),
            ("authorization-kubeconfig", "kube-controller-manager.conf"),
            ("root-ca-file", "ca.crt"),
            ("cluster-signing-cert-file", "ca.crt"),
            ("cluster-signing-key-file", "ca.key"),
            ("service-account-private-key-file", "service-accounts.key"),
        ] {
            program = program.arg(self.flag(flag, file));
        }
        program
    }

    /// The scheduler, as it is.
    pub(super) fn scheduler(&self) -> Program {
        let mut program = self.program("kube-scheduler").args([
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--profiling=false",
        ]);
        for flag in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
            program = program.arg(self.flag(flag, "kube-scheduler.conf"));
        }
        program
    }

    /// A plain-HTTP registry that keeps everything in a directory.
    pub(super) fn registry(&self) -> Result<Program> {
        let file = self.data.join("registry.yaml");
        let config = serde_json::json!({
            "version": 0.1,
            "log": { "level": "warn", "accesslog": { "disabled": true } },
            "storage": { "filesystem": { "rootdirectory": self.data.join("registry") }, "delete": { "enabled": true } },
            "http": { "addr": format!(":{REGISTRY_PORT}") },
        });
        std::fs::write(&file, serde_yaml_ng::to_string(&config)?)?;
        Ok(self.program("registry").arg("serve").arg(file).env("OTEL_TRACES_EXPORTER", "none"))
    }

    fn flag(&self, flag: &str, file: &str) -> String {
        format!("--{flag}={}", self.pki.path(file).display())
    }
}
