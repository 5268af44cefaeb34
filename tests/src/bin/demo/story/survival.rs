//! The agent dies, the pods do not.

use std::time::Duration;

use anyhow::{Result, ensure};
use samara_tests::cluster::Cluster;
use samara_tests::load::{Load, Way};
use samara_tests::node::Node;
use samara_tests::wait::{Seen, until};

use crate::tell::Teller;

/// Container ids and restart counts of the web pods.
const IDENTITIES: &str = "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";

pub(super) async fn of_the_agents_death(cluster: &Cluster, teller: &mut Teller, node: &Node) -> Result<()> {
    teller
        .step(
            "The agent is killed with SIGKILL and started again; the pods go on serving, the same containers",
            async |tell| {
                let before = settled(cluster).await?;
                let load = Load::start(cluster.client(), "default", "http-hello", Way::Endpoints).await?;
                load.more(20).await?;
                node.kill_agent()?;
                tell.say("$ kill -KILL <the agent>");
                load.more(50).await?;
                node.start_agent(cluster)?;
                node.ready(cluster).await?;
                load.more(50).await?;
                let after = settled(cluster).await?;
                let tally = load.finish().await;
                tally.no_failure()?;
                ensure!(before == after, "before:\n{before}after:\n{after}");
                tell.quote(&after, 3);
                tell.say(&format!(
                    "{} answers meanwhile, 0 failed; same container IDs, same restart counts",
                    tally.answered()
                ));
                Ok(())
            },
        )
        .await
}

/// Identities once only three pods are left: the roll-back's last old pod may be on its way out still.
async fn settled(cluster: &Cluster) -> Result<String> {
    until("three web pods are left", Duration::from_secs(60), async || {
        let text = cluster.kubectl().run(&["get", "pods", "-l", "app=http-hello", "-o", IDENTITIES]).await?;
        Ok(Seen::some((text.lines().count() == 3).then(|| text.clone()), text))
    })
    .await
}
