//! `samara node`: the flags. Each overrides its field of the `KubeletConfiguration` file, as the kubelet has it.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use k8s_openapi::api::core::v1::Taint;

use crate::config::{AgentConfig, ConfigError, merge};
use crate::images::LimitArgs;

/// Be a node of a Kubernetes cluster, or of none on a directory of manifests
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// Kubeconfig of this node [default: ROOT_DIR/kubeconfig, written by --bootstrap-kubeconfig]
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Kubeconfig with a bootstrap token, to ask for this node's own certificate with
    #[arg(long, value_name = "FILE")]
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current-context]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// A KubeletConfiguration file (kubelet.config.k8s.io/v1beta1)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Manifests of pods to run whatever the cluster says: a directory, or a file; without a kubeconfig they are all
    /// there is
    #[arg(long, value_name = "DIR")]
    pub pod_manifest_path: Option<PathBuf>,
    /// Name of the Node [default: the host's name]
    #[arg(long, visible_alias = "hostname-override", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Address of this node for others; a second one for the other family [default: the default route's]
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Labels of the Node beside ours; kubernetes.io/os and kubernetes.io/arch replace wasi and wasm32
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label)]
    pub node_labels: Vec<(String, String)>,
    /// Taints of the Node when it is created; empty for none [default: kubernetes.io/arch=wasm32:NoSchedule]
    #[arg(long, value_name = "KEY=VALUE:EFFECT", value_delimiter = ',', value_parser = taint, num_args = 0..)]
    pub register_with_taints: Option<Vec<MaybeTaint>>,
    /// Create the Node open for pods
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub register_schedulable: Option<bool>,
    /// Identity of this machine at its cloud
    #[arg(long, value_name = "ID")]
    pub provider_id: Option<String>,
    /// Addresses of this node's pods, instead of the Node's podCIDR
    #[arg(long, value_name = "CIDR")]
    pub pod_cidr: Option<String>,
    /// Most pods at once [default: 110]
    #[arg(long, value_name = "COUNT")]
    pub max_pods: Option<u32>,
    /// What survives a reboot: images, code, keys, volumes
    #[arg(long, value_name = "DIR", default_value = "/var/lib/samara")]
    pub root_dir: PathBuf,
    /// What does not: sockets and bundles
    #[arg(long, value_name = "DIR", default_value = "/run/samara")]
    pub run_dir: PathBuf,
    /// Logs of the pods [default: /var/log/pods]
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// Links to the logs, one for each container [default: "containers" beside the logs of the pods]
    #[arg(long, value_name = "DIR")]
    pub container_log_dir: Option<PathBuf>,
    /// Address of the node's API [default: 0.0.0.0]
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,
    /// Port of the node's API [default: 10250]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Registries spoken to without TLS, as HOST or HOST:PORT; this machine's own always are
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub plain_registry: Vec<String>,
    /// Settings per registry, as containerd keeps them: mirrors, authorities, client certificates in DIR/HOST/hosts.toml
    #[arg(long, value_name = "DIR")]
    pub registry_config_dir: Option<PathBuf>,
    /// A CredentialProviderConfig file, or a directory of them: programs that know credentials for registries
    #[arg(long, value_name = "FILE", requires = "image_credential_provider_bin_dir")]
    pub image_credential_provider_config: Option<PathBuf>,
    /// Where those programs are
    #[arg(long, value_name = "DIR", requires = "image_credential_provider_config")]
    pub image_credential_provider_bin_dir: Option<PathBuf>,
    /// Append one line of JSON for each pod's start to FILE: where its time went, by phase
    #[arg(long, value_name = "FILE")]
    pub trace_starts: Option<PathBuf>,
    /// How large images may be
    #[command(flatten)]
    pub limits: LimitArgs,
}

impl NodeArgs {
    /// Reads the configuration file and puts the flags over it. What the file says and we do not honour is warned of.
    pub fn into_config(self) -> Result<AgentConfig, ConfigError> {
        let file = self.config.clone();
        let parsed = match &file {
            Some(path) => merge::read(path)?,
            None => samara_core::config::Parsed::default(),
        };
        for warning in &parsed.warnings {
            tracing::warn!(file = %file.as_deref().unwrap_or("".as_ref()).display(), "{warning}");
        }
        merge::merge(self, parsed.config)
    }
}

/// A taint, or the nothing of `--register-with-taints=`.
#[derive(Debug, Clone, PartialEq)]
pub struct MaybeTaint(pub Option<Taint>);

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    if key.is_empty() { Err("the key is empty".into()) } else { Ok((key.into(), value.into())) }
}

fn taint(text: &str) -> Result<MaybeTaint, String> {
    if text.is_empty() {
        return Ok(MaybeTaint(None));
    }
    let (rest, effect) = text.rsplit_once(':').ok_or("expected KEY=VALUE:EFFECT or KEY:EFFECT")?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        return Err(format!("the effect is NoSchedule, PreferNoSchedule or NoExecute, not {effect:?}"));
    }
    let (key, value) = rest.split_once('=').map_or((rest, None), |(key, value)| (key, Some(value.to_owned())));
    if key.is_empty() {
        return Err("the key is empty".into());
    }
    Ok(MaybeTaint(Some(Taint { key: key.into(), value, effect: effect.into(), time_added: None })))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        node: NodeArgs,
    }

    fn parse(flags: &[&str]) -> Result<NodeArgs, String> {
        let parsed = Cli::try_parse_from(["node"].iter().chain(flags));
        parsed.map(|cli| cli.node).map_err(|error| error.to_string())
    }

    #[test]
    fn taints_are_read_as_kubectl_writes_them() {
        let taints = |flag: &str| parse(&[flag]).map(|args| args.register_with_taints.unwrap_or_default());
        let made = |key: &str, value: Option<&str>, effect: &str| {
            let value = value.map(str::to_owned);
            MaybeTaint(Some(Taint { key: key.into(), value, effect: effect.into(), time_added: None }))
        };
        let table = [
            ("--register-with-taints=a=b:NoSchedule", vec![made("a", Some("b"), "NoSchedule")]),
            (
                "--register-with-taints=a:NoExecute,b=:NoSchedule",
                vec![made("a", None, "NoExecute"), made("b", Some(""), "NoSchedule")],
            ),
            ("--register-with-taints=", vec![MaybeTaint(None)]),
        ];
        for (flag, expected) in table {
            assert_eq!(taints(flag), Ok(expected), "{flag}");
        }
        for wrong in ["a=b", "a=b:Never", "=b:NoSchedule"] {
            assert!(taints(&format!("--register-with-taints={wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn wrong_flags_are_refused_with_the_flag() {
        for (flag, named) in [
            ("--node-ip=here", "--node-ip"),
            ("--node-labels=x", "--node-labels"),
            ("--max-pods=-1", "--max-pods"),
            ("--port=70000", "--port"),
            ("--image-credential-provider-config=c", "--image-credential-provider-bin-dir"),
            ("--image-credential-provider-bin-dir=d", "--image-credential-provider-config"),
        ] {
            let error = parse(&[flag]).expect_err(flag);
            assert!(error.contains(named), "{error}");
        }
    }
}
