//! Every scenario for every protocol, in separate processes on Kafka.

use tests::devices::{HttpDevice, MqttDevice};
use tests::fleet::shared;
use tests::{for_each_scenario, scenarios};

macro_rules! generate {
    ($($scenario:ident),* $(,)?) => {
        mod http { for_driver!(HttpDevice, $($scenario)*); }
        mod mqtt_311 { for_driver!(MqttDevice::<false>, $($scenario)*); }
        mod mqtt_5 { for_driver!(MqttDevice::<true>, $($scenario)*); }
    };
}

macro_rules! for_driver {
    ($driver:expr, $($scenario:ident)*) => {
        use super::*;

        $(
            #[tokio::test]
            async fn $scenario() {
                let Some(fleet) = shared(stringify!($scenario)) else { return };
                scenarios::$scenario($driver, fleet.cloud()).await;
            }
        )*
    };
}

for_each_scenario!(generate);
