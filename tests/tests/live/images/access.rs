//! Whose image it is: pull secrets, plugins of the node, and who may use what another pod pulled.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{DeleteParams, LogParams, PostParams};
use kube::{Api, ResourceExt as _};
use samara_tests::crooked::{Answer, Crooked, digest};
use samara_tests::manifest::PodSpec;
use samara_tests::node::{For, Node, Options};
use samara_tests::private::{self, ADDRESS, PASSWORD, Private, USER, script, secret};
use samara_tests::samples;
use samara_tests::scene::Scene;
use serde_json::{Value, json};

use super::{hello, tool, waiting};
use crate::trial::tests;

tests![
    a_private_image_is_pulled_with_the_one_of_several_secrets_that_fits,
    what_a_pod_pulled_with_a_secret_is_not_anothers_without_it_also_after_a_restart,
    a_plugin_shows_the_registry_what_it_got_for_the_pods_own_token,
    a_component_is_refused_by_its_imports_before_it_is_fetched,
    a_pod_runs_from_every_form_that_tools_write,
    the_command_line_does_not_remove_what_a_pod_runs_from,
];

async fn the_command_line_does_not_remove_what_a_pod_runs_from(scene: &Scene) -> Result<()> {
    let node = scene.node();
    scene.create::<Pod>(PodSpec::of("toolbox").pod("box")).await?;
    let status = scene.ready("box").await?.status.and_then(|status| status.container_statuses).unwrap_or_default();
    let image = status.first().map(|status| status.image_id.clone()).context("no container")?;
    let digest = image.rsplit_once('@').context("no digest")?.1.to_owned();
    let samara = |verb: &[&str]| {
        let mut command = std::process::Command::new(samara_tests::node::samara());
        command.args(verb).arg("--root-dir").arg(node.root_dir()).arg("--run-dir").arg(node.run_dir());
        command.output()
    };
    let refused = samara(&["rmi", "-f", &digest])?;
    let text = String::from_utf8_lossy(&refused.stderr);
    ensure!(!refused.status.success() && text.contains("a pod of this node uses it"), "{text}");
    let exec = scene.kubectl(&["exec", "box", "--", "echo", "here"]).await?;
    ensure!(exec == "here\n", "{exec:?}");
    Ok(())
}

/// A node of its own with these flags, and a registry beside it.
async fn place(scene: &Scene, name: &str) -> Result<(Node, Private)> {
    let node = Node::start(scene.cluster(), &Options { whom: For::OneTest, ..Options::new(name) }).await?;
    node.ready(scene.cluster()).await?;
    let registry = Private::start(scene.cluster(), &node, name).await?;
    Ok((node, registry))
}

async fn a_private_image_is_pulled_with_the_one_of_several_secrets_that_fits(scene: &Scene) -> Result<()> {
    let (node, _registry) = place(scene, "private-one").await?;
    let (stale, glob) =
        (secret("stale", ADDRESS, "stale"), secret("glob", &ADDRESS.replace("localhost", "local*"), PASSWORD));
    for secret in [stale, glob] {
        scene.create::<Secret>(secret).await?;
    }
    let image = private::image("hello");
    let secrets = |names: &[&str]| {
        let names: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
        json!({ "imagePullSecrets": names })
    };
    for (name, of, word) in [("none", vec![], "401"), ("stale", vec!["stale", "missing"], "401")] {
        scene.create::<Pod>(hello(&node, &image, secrets(&of)).pod(name)).await?;
        let message = waiting(scene, name, "ErrImagePull").await?;
        ensure!(message.contains(word) && message.contains(&image), "{message}");
        ensure!(!message.contains("sesame"), "{message}");
    }
    let told = scene.event("stale", "FailedToRetrieveImagePullSecret").await?;
    ensure!(told.contains("missing"), "{told}");
    scene.create::<Pod>(hello(&node, &image, secrets(&["stale", "glob"])).pod("good")).await?;
    scene.over("good").await?;
    let pulled = scene.event("good", "Pulled").await?;
    ensure!(pulled.starts_with(&format!("Successfully pulled image \"{image}\" in ")), "{pulled}");
    Ok(())
}

async fn what_a_pod_pulled_with_a_secret_is_not_anothers_without_it_also_after_a_restart(scene: &Scene) -> Result<()> {
    let (node, _registry) = place(scene, "private-two").await?;
    for name in ["pull", "same"] {
        scene.create::<Secret>(secret(name, ADDRESS, PASSWORD)).await?;
    }
    let image = private::image("hello");
    let with = |secret: &str| json!({ "imagePullSecrets": [{ "name": secret }] });
    scene.create::<Pod>(hello(&node, &image, with("pull")).pod("a")).await?;
    scene.over("a").await?;
    for round in ["before", "after"] {
        if round == "after" {
            node.kill_agent()?;
            node.start_agent(scene.cluster())?;
            node.ready(scene.cluster()).await?;
        }
        // The same secret, and another with the same content: no pull. A wrong one and none: the registry says no.
        for (name, fields) in [("with", with("pull")), ("same", with("same"))] {
            let name = format!("{name}-{round}");
            scene.create::<Pod>(hello(&node, &image, fields).pod(&name)).await?;
            scene.over(&name).await?;
            let pulled = scene.event(&name, "Pulled").await?;
            ensure!(pulled.ends_with("already present on machine and can be accessed by the pod"), "{name}: {pulled}");
        }
        let name = format!("without-{round}");
        scene.create::<Pod>(hello(&node, &image, json!({})).pod(&name)).await?;
        let message = waiting(scene, &name, "ErrImagePull").await?;
        ensure!(message.contains("401"), "{message}");
        // Whether the image is here is not even told.
        let name = format!("never-{round}");
        let never = hello(&node, &image, json!({})).main(json!({ "imagePullPolicy": "Never" }));
        scene.create::<Pod>(never.pod(&name)).await?;
        let message = waiting(scene, &name, "ErrImageNeverPull").await?;
        ensure!(message == format!("Container image {image:?} is not present with pull policy of Never"), "{message}");
    }
    Ok(())
}

async fn a_plugin_shows_the_registry_what_it_got_for_the_pods_own_token(scene: &Scene) -> Result<()> {
    const AUDIENCE: &str = "images.samara.test";
    let name = "plugins";
    let dir = scene.cluster().site().data_dir().join("plugins");
    fs::create_dir_all(&dir)?;
    // Answers whoever asks, and writes down what it is shown.
    let answer = json!({
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderResponse",
        "cacheKeyType": "Registry", "auth": { ADDRESS: { "username": USER, "password": PASSWORD } },
    });
    let asked = dir.join("asked");
    script(&dir.join("vault"), &format!("cat >> {0}; echo >> {0}; printf '%s' '{answer}'", asked.display()))?;
    let config = dir.join("config.yaml");
    let provider = json!({
        "name": "vault", "matchImages": [ADDRESS], "defaultCacheDuration": "1h",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "tokenAttributes": {
            "serviceAccountTokenAudience": AUDIENCE, "cacheType": "ServiceAccount", "requireServiceAccount": true,
            "requiredServiceAccountAnnotationKeys": ["samara.test/role"],
        },
    });
    let providers = json!({
        "apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig", "providers": [provider],
    });
    fs::write(&config, providers.to_string())?;
    let flags = vec![
        "--image-credential-provider-config".into(),
        config.into(),
        "--image-credential-provider-bin-dir".into(),
        dir.clone().into(),
    ];
    let node = Node::start(scene.cluster(), &Options { whom: For::OneTest, flags, ..Options::new(name) }).await?;
    node.ready(scene.cluster()).await?;
    let _registry = Private::start(scene.cluster(), &node, name).await?;
    let grant = Grant::of(scene, AUDIENCE, node.name()).await?;
    let account = |name: &str, annotations: Value| json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "annotations": annotations } });
    scene.create::<ServiceAccount>(account("buyer", json!({ "samara.test/role": "buyer" }))).await?;
    scene.create::<ServiceAccount>(account("bare", json!({}))).await?;
    let image = private::image("hello");
    scene.create::<Pod>(hello(&node, &image, json!({ "serviceAccountName": "buyer" })).pod("buyer")).await?;
    scene.over("buyer").await?;
    // Another pod of the same account is not asked for again; one of another account does not get what this one got.
    scene.create::<Pod>(hello(&node, &image, json!({ "serviceAccountName": "buyer" })).pod("again")).await?;
    scene.over("again").await?;
    let pulled = scene.event("again", "Pulled").await?;
    ensure!(pulled.ends_with("can be accessed by the pod"), "{pulled}");
    scene.create::<Pod>(hello(&node, &image, json!({ "serviceAccountName": "bare" })).pod("bare")).await?;
    let message = waiting(scene, "bare", "ErrImagePull").await?;
    ensure!(message.contains("401"), "{message}");

    let asked = fs::read_to_string(&asked)?;
    let asked: Vec<Value> = asked.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let [request] = asked.as_slice() else { anyhow::bail!("the plugin was asked {} times", asked.len()) };
    ensure!(request["serviceAccountAnnotations"] == json!({ "samara.test/role": "buyer" }), "{request}");
    let token = request["serviceAccountToken"].as_str().context("no token")?;
    let claims = claims(token)?;
    ensure!(claims["aud"] == json!([AUDIENCE]), "{claims}");
    ensure!(claims["sub"] == json!(format!("system:serviceaccount:{}:buyer", scene.namespace())), "{claims}");
    grant.end().await
}

async fn a_component_is_refused_by_its_imports_before_it_is_fetched(scene: &Scene) -> Result<()> {
    const JSON: &str = "application/octet-stream";
    let registry = Crooked::start(scene.node())?;
    // The configuration tells; there is no layer to be had.
    let component =
        json!({ "imports": ["wasi:cli/stdout@0.2.0", "wasi:http/typos@0.2.0"], "exports": ["wasi:cli/run@0.2.0"] });
    let config =
        json!({ "architecture": "wasm", "os": "wasip2", "layerDigests": [], "component": component }).to_string();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.wasm.config.v0+json", "digest": digest(config.as_bytes()), "size": config.len() },
        "layers": [{ "mediaType": "application/wasm", "digest": digest(b"absent"), "size": 6 }],
    });
    let manifest = Answer::Content("application/vnd.oci.image.manifest.v1+json", manifest.to_string().into());
    registry.answer("asks/manifests/v1", manifest);
    registry.answer(format!("asks/blobs/{}", digest(config.as_bytes())), Answer::Content(JSON, config.into()));
    let app = json!({ "image": registry.image("asks"), "name": "app" });
    scene.create::<Pod>(PodSpec::of("hello").main(app).pod("asks")).await?;
    let message = waiting(scene, "asks", "ErrImagePull").await?;
    let expected = "it imports wasi:http/typos@0.2.0, which this node does not have (the nearest it has is wasi:http/types@0.2.12)";
    ensure!(message.ends_with(expected), "{message}");
    Ok(())
}

async fn a_pod_runs_from_every_form_that_tools_write(scene: &Scene) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = |name: &str| dir.path().join(name).display().to_string();
    let name = |form: &str| format!("localhost:5000/{}/{form}:v1", scene.namespace());
    let module = samples::artifact("wasm32-wasip1/release/hello.wasm").display().to_string();
    let component = samples::artifact("wasm32-wasip2/release/hello.wasm").display().to_string();
    let image = json!({ "os": "wasip1", "architecture": "wasm", "config": { "Entrypoint": ["/hello"] }, "rootfs": { "type": "layers", "diff_ids": [] } });
    let content = "application/vnd.wasm.content.layer.v1+wasm";
    let layer = |kind: &str| format!("application/vnd.bytecodealliance.wasm.{kind}.layer.v0+wasm");
    let forms = [
        (
            "cncf",
            "application/vnd.wasm.config.v0+json",
            json!({ "architecture": "wasm", "os": "wasip2", "layerDigests": [] }),
            "application/wasm",
            &component,
        ),
        ("krustlet", "application/vnd.wasm.config.v1+json", json!({}), content, &module),
        ("spin", "application/vnd.fermyon.spin.application.v1+config", json!({}), content, &component),
        ("component", "application/vnd.oci.image.config.v1+json", image.clone(), &layer("component"), &component),
        ("module", "application/vnd.oci.image.config.v1+json", image, &layer("module"), &module),
    ];
    for (form, config_type, config, layer, wasm) in &forms {
        fs::write(file("config.json"), config.to_string())?;
        let (config, layer) = (format!("{}:{config_type}", file("config.json")), format!("{wasm}:{layer}"));
        let to = name(form);
        tool("oras", &["push", "--plain-http", "--disable-path-validation", &to, "--config", &config, &layer]).await?;
    }
    // A root file system, alone and in an index beside Linux.
    let mut root = tar::Builder::new(fs::File::create(file("root.tar"))?);
    root.append_path_with_name(&module, "hello")?;
    root.finish()?;
    for (form, platform) in [("root", "wasip1/wasm"), ("linux", "linux/amd64")] {
        let to = name(form);
        tool("crane", &["append", "--insecure", "--oci-empty-base", "-f", &file("root.tar"), "-t", &to]).await?;
        tool("crane", &["mutate", "--insecure", "--set-platform", platform, "--entrypoint", "/hello", "-t", &to, &to])
            .await?;
    }
    let (linux, root, index) = (name("linux"), name("root"), name("index"));
    tool("crane", &["index", "append", "--insecure", "-m", &linux, "-m", &root, "-t", &index]).await?;
    let forms: Vec<&str> = forms.iter().map(|form| form.0).chain(["root", "index"]).collect();
    for form in &forms {
        let app = json!({ "image": name(form), "name": "app" });
        scene.create::<Pod>(PodSpec::of("hello").main(app).set(json!({ "restartPolicy": "Never" })).pod(form)).await?;
    }
    for form in &forms {
        scene.over(form).await.with_context(|| (*form).to_owned())?;
        let log = scene.log(form, &LogParams::default()).await?;
        ensure!(log.starts_with("hello from samara"), "{form} printed {log:?}");
    }
    Ok(())
}

fn claims(token: &str) -> Result<Value> {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).context("not a JWT")?;
    Ok(serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload)?)?)
}

/// Lets nodes ask for tokens of an audience that is in no pod's volumes: what an operator grants for plugins.
struct Grant {
    client: kube::Client,
    name: String,
}

impl Grant {
    async fn of(scene: &Scene, audience: &str, name: &str) -> Result<Self> {
        let client = scene.cluster().client().clone();
        let name = format!("samara-test-{name}");
        let role: ClusterRole = serde_json::from_value(json!({
            "metadata": { "name": name },
            "rules": [{ "apiGroups": [""], "resources": [audience], "verbs": ["request-serviceaccounts-token-audience"] }],
        }))?;
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes" }],
        }))?;
        let role = Api::all(client.clone()).create(&PostParams::default(), &role).await?;
        Api::all(client.clone()).create(&PostParams::default(), &binding).await?;
        Ok(Self { client, name: role.name_any() })
    }

    async fn end(self) -> Result<()> {
        let gone = DeleteParams::default();
        Api::<ClusterRoleBinding>::all(self.client.clone()).delete(&self.name, &gone).await?;
        Api::<ClusterRole>::all(self.client).delete(&self.name, &gone).await?;
        Ok(())
    }
}
