//! The one configuration of wasmtime: the compile worker and every host must agree on it, or code does not load.

use wasmtime::component::Component;
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

/// What the engine is for. Code made by the one loads in the other: nothing that differs between them is recorded in
/// compiled code.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    /// Runs at most this many instances at a time; never compiles.
    Run { instances: u32 },
    /// Compiles, and links once to see whether it would run.
    #[cfg(feature = "compile")]
    Compile,
}

/// Every version of the code cache is told apart by this: the text of this file and wasmtime's version.
pub(crate) const REVISION: &[u8] = include_bytes!("engine.rs");
/// Version of wasmtime in the lock file (a test holds them together).
pub(crate) const WASMTIME: &str = "48.0.8";

/// Its features in the workspace's manifest, which decide what code expects of its host (a test holds them together); that
/// of the compiler is added by ours of the same name and changes nothing in the code.
#[cfg(test)]
const FEATURES: &str = r#"["runtime", "std", "async", "anyhow", "pooling-allocator", "component-model", "backtrace", "demangle", "addr2line"]"#;

/// Guest code is not instrumented (no epochs, no fuel): limits are the kernel's, and a process is ended from outside.
pub(crate) fn config(purpose: Purpose) -> Config {
    let instances = match purpose {
        Purpose::Run { instances } => instances.max(1),
        #[cfg(feature = "compile")]
        Purpose::Compile => 1,
    };
    let mut config = Config::new();
    config
        .memory_init_cow(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(instances)));
    #[cfg(feature = "compile")]
    if let Purpose::Run { .. } = purpose {
        config.enable_compiler(false);
    }
    config
}

fn memories(instances: u32) -> u32 {
    instances.saturating_add(16)
}

fn tables(instances: u32) -> u32 {
    instances.saturating_mul(2).saturating_add(32)
}

/// How many instances of this component fit into a pool made for `instances`; at least one is tried.
pub(crate) fn room_for(component: &Component, instances: u32) -> usize {
    let needs = component.resources_required();
    let (memory, table) = needs.map_or((1, 2), |needs| (needs.num_memories.max(1), needs.num_tables.max(1)));
    let room = instances.min(memories(instances) / memory).min(tables(instances) / table).max(1);
    usize::try_from(room).unwrap_or(usize::MAX)
}

/// Sizes of the pool. Address space is reserved, not used: a slot costs memory only once a guest has touched it.
fn pool(instances: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool
        // A component is some core instances (its module, adapters), mostly with one memory and table between them.
        .total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(16))
        .total_memories(memories(instances))
        .total_tables(tables(instances))
        .total_stacks(instances.saturating_add(1))
        .max_memories_per_component(16)
        .max_memories_per_module(4)
        .max_tables_per_component(32)
        .max_tables_per_module(8)
        // Language runtimes compiled to wasm have tables and instances far larger than the defaults.
        .table_elements(65_536)
        .max_core_instance_size(8 << 20)
        .max_component_instance_size(8 << 20)
        // What a request's instance has written is put back by copying, not by asking the kernel.
        .linear_memory_keep_resident(1 << 20)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_version_of_wasmtime_is_the_one_in_the_lock_file() {
        let lock = include_str!("../../Cargo.lock");
        let entry = format!("name = \"wasmtime\"\nversion = \"{WASMTIME}\"");
        assert!(lock.contains(&entry), "engine::WASMTIME must be the version in Cargo.lock");
    }

    #[test]
    fn the_recorded_features_of_wasmtime_are_those_in_the_manifest() {
        let manifest = include_str!("../../Cargo.toml");
        let entry = manifest.lines().find(|line| line.starts_with("wasmtime = ")).unwrap_or_default();
        assert!(entry.contains(&format!("features = {FEATURES}")), "engine::FEATURES must be those of {entry}");
    }
}
