//! Runs the tests against one control plane and one node.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use libtest_mimic::{Arguments, Conclusion, Trial};
use samara_tests::cluster::{self, Cluster, workspace};
use samara_tests::node::{self, Node};
use samara_tests::scene::Scene;
use samara_tests::site::Site;
use samara_tests::{host, samples};
use tokio::runtime::Runtime;

/// A test that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(300);

/// A test's outcome; what it works on is lent.
pub(crate) type Outcome<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// A sentence, and what shows that it is true.
#[derive(Clone, Copy)]
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) run: for<'a> fn(&'a Scene) -> Outcome<'a>,
}

/// Names of async functions of a module become its tests.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn tests() -> Vec<crate::trial::Test> {
            let module = module_path!().split_once("::").map_or("", |(_, inner)| inner);
            vec![$(crate::trial::Test {
                name: Box::leak(format!("{module}::{}", stringify!($name)).into_boxed_str()),
                run: |scene| Box::pin($name(scene)),
            }),*]
        }
    };
}
pub(crate) use tests;

/// What all tests share.
struct Shared {
    cluster: Arc<Cluster>,
    node: Arc<Node>,
    runtime: Runtime,
}

/// Starts the cluster, runs the tests, and ends the cluster on every way out.
pub(crate) fn run(args: &Arguments, tests: Vec<Test>) -> ExitCode {
    if args.list {
        return libtest_mimic::run(args, tests.into_iter().map(|test| Trial::test(test.name, || Ok(()))).collect())
            .exit_code();
    }
    match start() {
        Ok(shared) => conclude(args, tests, shared),
        Err(error) => {
            eprintln!("the live suite cannot start: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<Shared> {
    host::check(&cluster::tools_dir(), &cluster::TOOLS)?;
    let site = Site::enter(&format!("t{}", std::process::id()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.spawn(end_on_signal(site.clone()));
    let began = Instant::now();
    let (cluster, node) = runtime.block_on(async {
        let cluster = Cluster::up(site, &cluster::Options::new()).await?;
        eprintln!("control plane up in {:.1} s", began.elapsed().as_secs_f64());
        samples::push_all().await.context("push the samples")?;
        let node = Node::start(&cluster, &node::Options::new("shared")).await?;
        node.ready(&cluster).await?;
        eprintln!("node ready after {:.1} s", began.elapsed().as_secs_f64());
        anyhow::Ok((cluster, node))
    })?;
    Ok(Shared { cluster: Arc::new(cluster), node: Arc::new(node), runtime })
}

fn conclude(args: &Arguments, tests: Vec<Test>, shared: Shared) -> ExitCode {
    let shared = Arc::new(shared);
    let trials = tests
        .into_iter()
        .map(|test| {
            let shared = Arc::clone(&shared);
            Trial::test(test.name, move || one(&shared, test).map_err(|error| format!("{error:#}").into()))
        })
        .collect();
    let conclusion: Conclusion = libtest_mimic::run(args, trials);
    drop(shared);
    conclusion.exit_code()
}

fn one(shared: &Shared, test: Test) -> Result<()> {
    let scene =
        shared.runtime.block_on(Scene::new(Arc::clone(&shared.cluster), Arc::clone(&shared.node), test.name))?;
    let tried = catch_unwind(AssertUnwindSafe(|| {
        shared.runtime.block_on(async {
            tokio::time::timeout(LIMIT, (test.run)(&scene))
                .await
                .unwrap_or_else(|_| Err(anyhow!("took longer than {LIMIT:?}")))
        })
    }));
    let outcome = tried.unwrap_or_else(|panic| Err(anyhow!("panicked: {}", panic_text(&*panic))));
    shared.runtime.block_on(async {
        if let Err(failure) = &outcome {
            let dir = workspace().join("target/live");
            scene
                .keep_evidence(&dir, &format!("{failure:?}\n"))
                .await
                .unwrap_or_else(|error| eprintln!("{}: no evidence kept: {error:#}", test.name));
        }
        scene.end().await;
    });
    outcome
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "no message".into())
}

async fn end_on_signal(site: Site) {
    samara_tests::site::signalled().await;
    eprintln!("\nended by a signal: undoing everything");
    if let Err(error) = site.end() {
        eprintln!("{error:#}");
    }
    std::process::exit(130);
}
