//! `sark-ha`: high availability for a pair of SARK machines.
fn main() -> std::process::ExitCode {
    ha_runtime::cli::main(&ha_adapters_sark::Sark)
}
