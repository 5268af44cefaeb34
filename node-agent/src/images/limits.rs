//! How large images, and the work that is made of them, may be: what a node sets, with its defaults.

use clap::Args;
use samara_core::quantity::Amount;
use samara_images::PullerConfig;

/// The flags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Limits of images")]
pub struct LimitArgs {
    /// Longest wasm file that is fetched and compiled [default: 256Mi]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub max_module_size: Option<u64>,
    /// Longest layer, as the registry has it [default: 8Gi]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub max_layer_size: Option<u64>,
    /// What one layer may unpack to [default: 16Gi]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub max_unpacked_size: Option<u64>,
    /// Files, directories and links of one layer [default: 1000000]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_layer_entries: Option<u64>,
    /// Memory that one compilation may use [default: 4Gi]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub compile_memory: Option<u64>,
    /// CPU time that one compilation may use, of all threads together; by the clock twice as much [default: 300]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub compile_cpu_seconds: Option<u64>,
}

/// What one compilation may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Bytes of memory. Default 4 GiB.
    pub memory: u64,
    /// CPU seconds. Default 300.
    pub cpu_seconds: u64,
    /// Bytes of wasm. Default 256 MiB.
    pub module: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { memory: 4 << 30, cpu_seconds: 300, module: PullerConfig::default().largest_module }
    }
}

impl LimitArgs {
    /// Sets what was given.
    pub fn apply(&self, pull: &mut PullerConfig, compile: &mut CompileLimits) {
        let set = |place: &mut u64, value: Option<u64>| *place = value.unwrap_or(*place);
        set(&mut pull.largest_module, self.max_module_size);
        set(&mut compile.module, self.max_module_size);
        set(&mut pull.largest_layer, self.max_layer_size);
        set(&mut pull.unpack.bytes, self.max_unpacked_size);
        set(&mut pull.unpack.entries, self.max_layer_entries);
        set(&mut compile.memory, self.compile_memory);
        set(&mut compile.cpu_seconds, self.compile_cpu_seconds);
    }
}

/// `64Mi`, `1G`, `1000`; not nothing.
fn bytes(text: &str) -> Result<u64, String> {
    let amount = Amount::parse(text).map_err(|error| error.to_string())?;
    u64::try_from(amount.value()).ok().filter(|bytes| *bytes > 0).ok_or_else(|| "it must be more than nothing".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_keeps_its_default() {
        let (mut pull, mut compile) = (PullerConfig::default(), CompileLimits::default());
        LimitArgs::default().apply(&mut pull, &mut compile);
        assert_eq!((pull.largest_module, pull.largest_layer), (256 << 20, 8 << 30));
        assert_eq!(compile, CompileLimits { memory: 4 << 30, cpu_seconds: 300, module: 256 << 20 });
        let given = LimitArgs {
            max_module_size: Some(1),
            max_layer_size: Some(2),
            max_unpacked_size: Some(3),
            max_layer_entries: Some(4),
            compile_memory: Some(5),
            compile_cpu_seconds: Some(6),
        };
        given.apply(&mut pull, &mut compile);
        assert_eq!((pull.largest_module, pull.largest_layer), (1, 2));
        assert_eq!((pull.unpack.bytes, pull.unpack.entries), (3, 4));
        assert_eq!(compile, CompileLimits { memory: 5, cpu_seconds: 6, module: 1 });
    }

    #[test]
    fn sizes_are_written_as_kubernetes_writes_them() {
        for (text, size) in [("64Mi", Some(64 << 20)), ("1G", Some(1_000_000_000)), ("7", Some(7)), ("1e3", Some(1000))]
        {
            assert_eq!(bytes(text).ok(), size, "{text}");
        }
        for bad in ["", "0", "-1Mi", "lots", "64 MiB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
