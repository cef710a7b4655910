//! Throughput of decoding, in bytes of the records.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use records::Kind;

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (name, kind) in [("display", Kind::Display), ("comp3", Kind::Comp3)] {
        let (data, mut numbers) = (kind.fields(1 << 14), Vec::new());
        group.throughput(Throughput::Bytes(data.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| kind.decode(black_box(&data), &mut numbers).expect("whole fields"));
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
