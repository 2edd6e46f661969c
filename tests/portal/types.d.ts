// Types of the API for the portal's modules, under one name: `Api.FunctionStatus`. Those of events are written here.
import type { components } from "openapi";

type Schemas = components["schemas"];

declare global {
  namespace Api {
    type Problem = Schemas["Problem"];
    type GatewayInfo = Schemas["GatewayInfo"];
    type VersionInfo = Schemas["VersionInfo"];
    type FunctionStatus = Schemas["FunctionStatus"];
    type FunctionDeployment = Schemas["FunctionDeployment"];
    type FunctionResources = Schemas["FunctionResources"];
    type FunctionNamespace = Schemas["FunctionNamespace"];
    type LogMessage = Schemas["LogMessage"];
    type ScalingStatus = Schemas["ScalingStatus"];
    type Secret = Schemas["Secret"];
    type AsyncStatus = Schemas["AsyncStatus"];
    type AsyncCount = Schemas["AsyncCount"];
    type AsyncCall = Schemas["AsyncCall"];
    type AsyncCalls = Schemas["AsyncCalls"];
    type AsyncDone = Schemas["AsyncDone"];
    type AsyncResult = Schemas["AsyncResult"];
    type Configuration = Schemas["Configuration"];
    type ConfigValue = Schemas["ConfigValue"];
    type ConfigStatus = Schemas["ConfigStatus"];
    type ConfigDiff = Schemas["ConfigDiff"];
    type ConfigCheck = Schemas["ConfigCheck"];
    type ConfigReload = Schemas["ConfigReload"];
    // The document has no place for what a stream is made of; these are of src/model/event.rs.
    type SnapshotEvent = { time: string; functions: FunctionStatus[]; configuration: ConfigStatus };
    type FunctionEvent = { time: string; action: string; name: string; namespace: string; function?: FunctionStatus };
    type ReplicasEvent = { time: string; name: string; namespace: string; replicas: number; availableReplicas: number };
    type FunctionLoad = { name: string; namespace: string; inFlight: number; calls: number; errors: number; rate: number; errorRate: number; p50?: number; p95?: number; p99?: number };
    type LoadEvent = { time: string; functions: FunctionLoad[] };
    type ScalingEvent = { time: string; name: string; namespace: string };
    type AsyncEvent = { time: string; id?: string; name?: string; namespace?: string; state?: string; attempts?: number; counts?: Record<string, number> };
    type StoreFunction = Schemas["StoreFunction"];
    type Store = Schemas["Store"];
  }
}
