//! `wazo-ha`: high availability for a pair of Wazo machines.
fn main() -> std::process::ExitCode {
    ha_runtime::cli::main(&ha_adapters_wazo::Wazo)
}
