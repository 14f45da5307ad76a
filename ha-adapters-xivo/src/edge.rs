//! The Edge's `.env`: four variables name the side that serves.

use ha_core::follow::{Edge, EnvFile, Variable};

/// The administration page, "Edge Deployment": "XiVO IP" and "XiVOCC IP" are values as a whole, what "contains XiVO IP"
/// is a list.
pub(crate) fn file(edge: &Edge) -> EnvFile {
    let variable = |name, sides, is_list| Variable { name, sides, is_list };
    let variables = vec![
        variable("XIVO_HOST", edge.xivo, false),
        variable("XIVOCC_HOST", edge.cc, false),
        variable("TURN_ALLOWED_PEERS", edge.xivo, true),
        variable("XIVO_MDS_HOST_DEFAULT", edge.xivo, true),
    ];
    EnvFile { variables }
}
