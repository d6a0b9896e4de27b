//! System tests: the real server and real clients, as its users have them. One binary, because each links for long.

#![expect(clippy::unwrap_used, reason = "a test that unwraps in vain fails, which is what it is for")]

mod attacks_http;
mod attacks_mqtt;
mod cli;
mod crash;
mod events_stream;
mod faults_channel;
mod faults_commands;
mod faults_outcomes;
mod faults_process;
mod faults_sessions;
mod kept_commands;
mod promises;
mod quickstart;
mod scenarios;
