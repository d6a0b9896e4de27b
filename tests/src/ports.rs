//! Ports for servers that are started more than once and must come back in the same place.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below 32768, from where on Linux gives ports to outgoing connections.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// Returns a loopback address that is free, and that nothing in this process was given before.
///
/// # Panics
/// Panics if none is free.
pub fn free() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run at the same time begin in different places.
    let start = (std::process::id() % u32::from(COUNT)) as u16;
    let any = (0..COUNT).find_map(|_| {
        let offset = (u32::from(start) + u32::from(NEXT.fetch_add(1, Ordering::Relaxed))) % u32::from(COUNT);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + offset as u16));
        TcpListener::bind(address).is_ok().then_some(address)
    });
    any.expect("a port is free")
}
