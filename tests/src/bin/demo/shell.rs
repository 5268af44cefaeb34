//! What is left for the user's own shell when the story is told.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use samara_tests::cluster::addresses::{API_PORT, CONTROL_PLANE};
use samara_tests::cluster::pki::Identity;
use samara_tests::cluster::{Cluster, tools_dir, workspace};
use samara_tests::forward;

/// Port on the user's loopback, if it is free.
const PORT: u16 = 6443;

/// Brings the API server to the user's loopback, and returns a kubeconfig which the user can read.
pub(crate) async fn open_door(cluster: &Cluster) -> Result<PathBuf> {
    let site = cluster.site();
    let listen = site.host().run(free_address)??;
    forward::start(site, site.host(), listen, site.namespace(), SocketAddr::from((CONTROL_PLANE, API_PORT))).await?;
    let identity = Identity { user: "demo", group: Some("system:masters") };
    let text = cluster.pki().user_kubeconfig(&format!("https://{listen}"), identity)?;
    let dir = workspace().join("target/demo");
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let file = dir.join("kubeconfig");
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    for path in [&dir, &file] {
        give_to_user(path)?;
    }
    Ok(file)
}

/// Prints commands that work in the user's own shell.
pub(crate) fn say_what_is_there(kubeconfig: &Path, took: Duration, with_story: bool) {
    let kubectl = tools_dir().join("kubectl");
    println!("\nThe cluster stays up until `make down`. It took {:.0} s. In your own shell:\n", took.as_secs_f64());
    println!("   export KUBECONFIG={}", kubeconfig.display());
    println!("   alias kubectl={}", kubectl.display());
    if with_story {
        println!("   kubectl get pods -o wide");
        println!("   kubectl logs -f deployment/http-hello");
        println!("   kubectl exec toolbox -- ls -l /bin");
        println!("   kubectl proxy");
        println!(
            "\nand then, in a browser: http://127.0.0.1:8001/api/v1/namespaces/default/services/http:http-hello:80/proxy/"
        );
    }
}

/// The usual port, else any.
fn free_address() -> Result<SocketAddr> {
    let usual = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT));
    let listener =
        usual.or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).context("no free port on loopback")?;
    Ok(listener.local_addr()?)
}

/// Under sudo the user is not root.
fn give_to_user(path: &Path) -> Result<()> {
    let id = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) {
        chown(path, Some(user), Some(group)).with_context(|| format!("give {} to its user", path.display()))?;
    }
    Ok(())
}
