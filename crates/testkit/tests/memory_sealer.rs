//! The sealer in memory holds to the contract of the port.

use connectors_testkit::MemorySealer;

connectors_testkit::sealer_contract!(MemorySealer::new);
