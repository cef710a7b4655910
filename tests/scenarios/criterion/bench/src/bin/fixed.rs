//! `fixed KIND MEBIBYTES`: decodes that much, so that its time is a throughput. Prints what the numbers come to.

use std::hint::black_box;
use std::process::ExitCode;

use records::Kind;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let told = match &words[..] {
        [_, kind, mebibytes] => kind.parse::<Kind>().ok().zip(mebibytes.parse::<u32>().ok()),
        _ => None,
    };
    let Some((kind, mebibytes)) = told else {
        eprintln!("usage: fixed display|comp3 MEBIBYTES");
        return ExitCode::from(2);
    };
    let (data, mut numbers, mut sum) = (kind.fields(1 << 20), Vec::new(), 0_i64);
    for _ in 0..mebibytes {
        if kind.decode(black_box(&data), &mut numbers).is_none() {
            return ExitCode::FAILURE;
        }
        sum = sum.wrapping_add(numbers.iter().sum());
    }
    println!("{} {sum}", words[1]);
    ExitCode::SUCCESS
}
