//! Fields of a pod that this node cannot honour. Such a pod is not Failed (its controller would replace it at once, for
//! ever): its containers wait with a message that names the fields.

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod, PodSpec, Probe, Volume};

/// `None`: all can be honoured. Else the text of `CreateContainerConfigError`.
pub fn unsupported(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let mut fields = pod_fields(spec);
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        fields.extend(volume_source(volume).map(|source| format!("spec.volumes[{index}].{source}")));
    }
    let lists = [("initContainers", spec.init_containers.as_deref()), ("containers", Some(&spec.containers[..]))];
    for (list, containers) in lists {
        for (index, container) in containers.unwrap_or_default().iter().enumerate() {
            let of_container = container_fields(spec, container);
            fields.extend(of_container.into_iter().map(|field| format!("spec.{list}[{index}].{field}")));
        }
    }
    if fields.is_empty() {
        return None;
    }
    Some(format!("this node runs WebAssembly and cannot honour: {}", fields.join(", ")))
}

fn pod_fields(spec: &PodSpec) -> Vec<String> {
    let context = spec.security_context.as_ref();
    let present = [
        ("spec.hostPID", spec.host_pid == Some(true)),
        ("spec.hostIPC", spec.host_ipc == Some(true)),
        ("spec.shareProcessNamespace", spec.share_process_namespace == Some(true)),
        ("spec.hostUsers=false", spec.host_users == Some(false)),
        ("spec.resourceClaims", spec.resource_claims.iter().flatten().next().is_some()),
        ("spec.securityContext.sysctls", context.is_some_and(|c| c.sysctls.iter().flatten().next().is_some())),
        ("spec.securityContext.windowsOptions", context.is_some_and(|c| c.windows_options.is_some())),
        (
            "spec.securityContext.seccompProfile.type=Localhost",
            context.and_then(|c| c.seccomp_profile.as_ref()).is_some_and(|profile| profile.type_ == "Localhost"),
        ),
    ];
    present.into_iter().filter(|(_, present)| *present).map(|(field, _)| field.to_owned()).collect()
}

fn container_fields(spec: &PodSpec, container: &Container) -> Vec<String> {
    let context = container.security_context.as_ref();
    let sctp_host_port = |port: &k8s_openapi::api::core::v1::ContainerPort| {
        port.host_port.is_some_and(|number| number > 0) && port.protocol.as_deref() == Some("SCTP")
    };
    let host_network = spec.host_network == Some(true);
    let extended = |side: Option<&std::collections::BTreeMap<_, _>>| {
        side.into_iter().flatten().any(|(name, _): (&String, _)| name.starts_with("hugepages-"))
    };
    let mut fields: Vec<String> = [
        ("securityContext.privileged", context.is_some_and(|c| c.privileged == Some(true))),
        ("securityContext.windowsOptions", context.is_some_and(|c| c.windows_options.is_some())),
        ("securityContext.procMount", context.is_some_and(|c| c.proc_mount.as_deref() == Some("Unmasked"))),
        (
            "securityContext.seccompProfile.type=Localhost",
            context.and_then(|c| c.seccomp_profile.as_ref()).is_some_and(|profile| profile.type_ == "Localhost"),
        ),
        ("volumeDevices", container.volume_devices.iter().flatten().next().is_some()),
        ("ports.hostPort of SCTP", !host_network && container.ports.iter().flatten().any(sctp_host_port)),
        ("resources.claims", container.resources.as_ref().is_some_and(|r| r.claims.iter().flatten().next().is_some())),
        ("resources.limits.hugepages", extended(container.resources.as_ref().and_then(|r| r.limits.as_ref()))),
    ]
    .into_iter()
    .filter(|(_, present)| *present)
    .map(|(field, _)| field.to_owned())
    .collect();
    for mount in container.volume_mounts.iter().flatten() {
        if matches!(mount.mount_propagation.as_deref(), Some("Bidirectional" | "HostToContainer")) {
            fields.push(format!("volumeMounts[{}].mountPropagation", mount.name));
        }
        if mount.recursive_read_only.as_deref() == Some("Enabled") {
            fields.push(format!("volumeMounts[{}].recursiveReadOnly", mount.name));
        }
    }
    if container.restart_policy_rules.iter().flatten().any(|rule| rule.action == "RestartAllContainers") {
        fields.push("restartPolicyRules.action=RestartAllContainers".to_owned());
    }
    for variable in container.env.iter().flatten() {
        if variable.value_from.as_ref().is_some_and(|source| source.file_key_ref.is_some()) {
            fields.push(format!("env[{}].valueFrom.fileKeyRef", variable.name));
        }
    }
    let probes = [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    let grpc = |probe: &Probe| probe.grpc.is_some();
    fields.extend(probes.iter().filter(|(_, p)| p.as_ref().is_some_and(grpc)).map(|(name, _)| format!("{name}.grpc")));
    let lifecycle = container.lifecycle.as_ref();
    let tcp = |hook: Option<&LifecycleHandler>| hook.is_some_and(|hook| hook.tcp_socket.is_some());
    if tcp(lifecycle.and_then(|l| l.pre_stop.as_ref())) || tcp(lifecycle.and_then(|l| l.post_start.as_ref())) {
        fields.push("lifecycle.tcpSocket".to_owned());
    }
    fields
}

/// Volume sources that this node cannot mount.
fn volume_source(volume: &Volume) -> Option<&'static str> {
    let present = [
        ("awsElasticBlockStore", volume.aws_elastic_block_store.is_some()),
        ("azureDisk", volume.azure_disk.is_some()),
        ("azureFile", volume.azure_file.is_some()),
        ("cephfs", volume.cephfs.is_some()),
        ("cinder", volume.cinder.is_some()),
        ("csi", volume.csi.is_some()),
        ("ephemeral", volume.ephemeral.is_some()),
        ("fc", volume.fc.is_some()),
        ("flexVolume", volume.flex_volume.is_some()),
        ("flocker", volume.flocker.is_some()),
        ("gcePersistentDisk", volume.gce_persistent_disk.is_some()),
        ("gitRepo", volume.git_repo.is_some()),
        ("glusterfs", volume.glusterfs.is_some()),
        ("image", volume.image.is_some()),
        ("iscsi", volume.iscsi.is_some()),
        ("nfs", volume.nfs.is_some()),
        ("persistentVolumeClaim", volume.persistent_volume_claim.is_some()),
        ("photonPersistentDisk", volume.photon_persistent_disk.is_some()),
        ("portworxVolume", volume.portworx_volume.is_some()),
        ("quobyte", volume.quobyte.is_some()),
        ("rbd", volume.rbd.is_some()),
        ("scaleIO", volume.scale_io.is_some()),
        ("storageos", volume.storageos.is_some()),
        ("vsphereVolume", volume.vsphere_volume.is_some()),
    ];
    present.into_iter().find(|(_, present)| *present).map(|(source, _)| source)
}
