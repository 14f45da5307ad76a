//! `xivo-ha`: high availability for a pair of XiVO machines.
fn main() -> std::process::ExitCode {
    ha_runtime::cli::main(&ha_adapters_xivo::Xivo)
}
