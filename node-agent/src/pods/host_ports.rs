//! `hostPort`: ports of the host that lead to a pod. The agent itself passes connections on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod};
use samara_core::pod::{is_host_network, is_sidecar};

use crate::network::{Forward, Transport};

/// What is to be passed on to the pod; nothing for a pod that has the host's ports itself. Pure.
pub(super) fn wanted(pod: &Pod, pod_ips: &[IpAddr]) -> Vec<Forward> {
    let (Some(spec), false, Some(to)) = (&pod.spec, is_host_network(pod), pod_ips.first()) else { return Vec::new() };
    let lasting = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container));
    let ports = lasting.chain(&spec.containers).flat_map(|container: &Container| container.ports.iter().flatten());
    ports.filter_map(|port| forward(port, *to)).collect()
}

fn forward(port: &ContainerPort, to: IpAddr) -> Option<Forward> {
    let transport = match port.protocol.as_deref() {
        None | Some("" | "TCP") => Transport::Tcp,
        Some("UDP") => Transport::Udp,
        Some(_) => return None,
    };
    let number = |port: i32| u16::try_from(port).ok().filter(|port| *port > 0);
    // The API server has checked it; a manifest's author may have written anything.
    let ip = port.host_ip.as_deref().and_then(|ip| ip.parse().ok()).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    Some(Forward {
        transport,
        listen: SocketAddr::new(ip, number(port.host_port?)?),
        to: SocketAddr::new(to, number(port.container_port)?),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(ports: serde_json::Value, host_network: bool) -> Vec<Forward> {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" },
            "spec": {
                "hostNetwork": host_network,
                "initContainers": [{ "name": "setup", "ports": [{ "containerPort": 1, "hostPort": 1 }] }],
                "containers": [{ "name": "app", "ports": ports }],
            },
        });
        wanted(&serde_json::from_value(pod).unwrap(), &["127.128.0.5".parse().unwrap()])
    }

    #[test]
    fn ports_of_containers_that_last_lead_to_the_pods_first_address() {
        let ports = json!([
            { "containerPort": 8080, "hostPort": 80 },
            { "containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "127.0.0.1" },
            { "containerPort": 9, "hostPort": 9, "protocol": "SCTP" },
            { "containerPort": 7 },
            { "containerPort": 70000, "hostPort": 7 },
        ]);
        let forward = |transport, listen: &str, to: &str| Forward {
            transport,
            listen: listen.parse().unwrap(),
            to: to.parse().unwrap(),
        };
        let expected = [
            forward(Transport::Tcp, "0.0.0.0:80", "127.128.0.5:8080"),
            forward(Transport::Udp, "127.0.0.1:53", "127.128.0.5:53"),
        ];
        assert_eq!(of(ports.clone(), false), expected);
        assert_eq!(of(ports, true), []);
    }
}
