//! The server's executable.

fn main() -> std::process::ExitCode {
    mortise_core::main()
}
