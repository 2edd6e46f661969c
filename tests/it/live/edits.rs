//! Many edits in a random order. The order is the same in every run.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{becomes, live, marked, says, start, write};

/// What is wrong with an edit; each names its step, so that the log shows when
/// it was looked at.
fn wrong(random: &mut StdRng, step: u32) -> String {
    let valid = marked("never");
    match random.random_range(0..4) {
        0 => format!("{valid}[nonsense_{step}]\n"),
        1 => format!("{valid}[invoke]\nupstream_timeout = \"step_{step}\"\n"),
        2 => format!("{valid}[logging]\nlevel = \"step_{step}\"\n"),
        _ => format!("{valid}[auth]\nbasic = true\nsecret_path = \"/no/such/step_{step}\"\n"),
    }
}

#[tokio::test]
async fn point_34_after_any_edits_the_last_valid_file_is_live() {
    let gateway = start().await;
    let mut random = StdRng::seed_from_u64(34);
    let mut expected = "one".to_owned();
    for step in 0..30 {
        let content = if random.random_bool(0.5) {
            expected = format!("step-{step}");
            marked(&expected)
        } else {
            wrong(&mut random, step)
        };
        if random.random_bool(0.5) {
            write(gateway.config_file(), &content);
        } else {
            let draft = gateway.directory().join("draft");
            write(&draft, &content);
            std::fs::rename(&draft, gateway.config_file()).expect("renamed");
        }
        if content.contains("never") {
            let named = |line: &serde_json::Value| {
                says(&format!("nonsense_{step}:"))(line)
                    || says(&format!("'step_{step}'"))(line)
                    || says(&format!("step_{step}/"))(line)
            };
            gateway.logged("the refusal", named).await;
            assert_eq!(live(&gateway).await, expected, "step {step}");
        } else {
            becomes(&gateway, &expected).await;
        }
    }
}
