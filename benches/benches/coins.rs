//! What a coin of Bitcoin's set costs: its element in the product of the set, its stored form.
//!
//! Names are `coins::<operation>/<kind of script>`, but for `coins::net/coins=<coins>`, the product of so many coins by all
//! threads of rayon, and `coins::digest`, the inversion. The goal of an element is 4 us on one core.
//!
//! `cargo bench -p hedgerow-benches --bench coins`, with a filter such as `coins::insert` behind it.
#![expect(clippy::unwrap_used, reason = "an error ends the bench")]

use criterion::{Criterion, criterion_group, criterion_main};
use hedgerow_coins::bitcoin::hashes::Hash;
use hedgerow_coins::bitcoin::{Amount, OutPoint, ScriptBuf, Txid};
use hedgerow_coins::{Coin, MuHash, write_element};
use std::hint::black_box;

/// Coins of which a net effect is made.
const COINS: u32 = 10_000;

/// Pays to a key's hash; to an uncompressed key.
const SCRIPTS: [(&str, &str); 2] = [
    ("p2pkh", "76a9142b4569203694fc997e13f2c0a1383b9e16c77a0d88ac"),
    (
        "p2pk65",
        "4104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac",
    ),
];

fn coin(script: &str) -> Coin {
    let script = ScriptBuf::from_hex(script).unwrap();
    Coin::new(400_000, false, Amount::from_sat(12_345_678), script).unwrap()
}

fn bench(criterion: &mut Criterion) {
    let outpoint = |vout| OutPoint { txid: Txid::from_byte_array([7; 32]), vout };
    for (name, script) in SCRIPTS {
        let coin = coin(script);
        let (mut element, mut stored) = (Vec::new(), Vec::new());
        write_element(&outpoint(0), &coin, &mut element);
        coin.encode(&mut stored);
        let mut product = MuHash::new();
        criterion.bench_function(&format!("coins::insert/{name}"), |bencher| {
            bencher.iter(|| product.insert(black_box(&element)));
        });
        criterion.bench_function(&format!("coins::encode/{name}"), |bencher| {
            bencher.iter(|| {
                stored.clear();
                black_box(&coin).encode(&mut stored);
            });
        });
        criterion.bench_function(&format!("coins::decode/{name}"), |bencher| {
            bencher.iter(|| Coin::decode(black_box(&stored)).unwrap());
        });
    }
    let coins: Vec<(OutPoint, Coin)> =
        (0..COINS).map(|vout| (outpoint(vout), coin(SCRIPTS[0].1))).collect();
    let net =
        || MuHash::net(&coins, &[], |(outpoint, coin), out| write_element(outpoint, coin, out));
    criterion.bench_function(&format!("coins::net/coins={COINS}"), |bencher| bencher.iter(net));
    let mut product = net();
    product.remove(b"so that there is something to divide by");
    criterion
        .bench_function("coins::digest", |bencher| bencher.iter(|| black_box(&product).digest()));
}

criterion_group!(benches, bench);
criterion_main!(benches);
