//! Where a relay counts bytes: its left and right, turned into client and server.

use super::Counters;
use crate::relay::{self, Direction, Side};

/// Counts what a relay moves in a record's counters.
#[derive(Clone, Copy, Debug)]
pub struct RelayMeter<'a> {
    counters: &'a Counters,
    client: Side,
}

impl Counters {
    /// Counts for a relay whose side `client` leads to the client.
    pub fn meter(&self, client: Side) -> RelayMeter<'_> {
        RelayMeter { counters: self, client }
    }
}

impl relay::Meter for RelayMeter<'_> {
    fn moved(&self, direction: Direction, bytes: u64) {
        match (self.client, direction) {
            (Side::Left, Direction::Rightward) | (Side::Right, Direction::Leftward) => {
                self.counters.add_to_server(bytes);
            }
            (Side::Left, Direction::Leftward) | (Side::Right, Direction::Rightward) => {
                self.counters.add_to_client(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay::Meter;

    #[test]
    fn sides_become_client_and_server() {
        let counters = Counters::default();
        counters.meter(Side::Left).moved(Direction::Rightward, 1);
        counters.meter(Side::Left).moved(Direction::Leftward, 10);
        counters.meter(Side::Right).moved(Direction::Leftward, 100);
        counters.meter(Side::Right).moved(Direction::Rightward, 1000);
        assert_eq!((counters.to_server(), counters.to_client()), (101, 1010));
    }
}
