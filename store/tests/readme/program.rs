use hedgerow::{Options, Store, StoreParams};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut store = Store::open_or_create("state", StoreParams::default(), Options::default())?;

    let mut block = store.next_block()?;
    block.put("alice", "100")?;
    block.delete("carol")?;              // absent: counted, changes nothing
    let ticket = block.submit()?;        // hashed and written while you go on
    let root = ticket.root()?;           // readers see the block
    ticket.durable()?;                   // it survives power loss: not before

    let reader = store.reader();         // Clone + Send + Sync, waits for no block
    let present = reader.prove("alice")?;
    let absent = reader.prove("carol")?;

    // Elsewhere, with nothing but the root:
    assert_eq!(hedgerow::verify(&root, b"alice", &present.proof)?, Some(&b"100"[..]));
    assert_eq!(hedgerow::verify(&root, b"carol", &absent.proof)?, None);
    store.close()?;
    Ok(())
}
