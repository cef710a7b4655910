use std::process::ExitCode;

fn main() -> ExitCode {
    phasegraph::demo::stage::dispatch().unwrap_or(ExitCode::SUCCESS)
}
