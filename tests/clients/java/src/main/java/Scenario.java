import com.fasterxml.jackson.databind.ObjectMapper;
import gateway.ApiClient;
import gateway.ApiException;
import gateway.ApiResponse;
import gateway.api.AsyncApi;
import gateway.api.ConfigurationApi;
import gateway.api.FunctionsApi;
import gateway.api.InvokeApi;
import gateway.api.NamespacesApi;
import gateway.api.SecretsApi;
import gateway.model.DeleteFunctionRequest;
import gateway.model.FunctionDeployment;
import gateway.model.FunctionNamespace;
import gateway.model.FunctionStatus;
import gateway.model.LogMessage;
import gateway.model.Problem;
import gateway.model.ScaleServiceRequest;
import gateway.model.Secret;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;

/**
 * What a user of the generated client does, from the first refusal to the last 404.
 *
 * <p>The library `native` writes bodies of bytes as JSON, so functions are called with java.net.http, and so are
 * the logs read: it takes a stream of JSON objects for a single one.
 */
public final class Scenario {
    private static final String NAME = "scenario";
    private static final String URL = System.getenv("GATEWAY_URL");
    private static final String USER = System.getenv("GATEWAY_USER");
    private static final String PASSWORD = System.getenv("GATEWAY_PASSWORD");

    private static final ObjectMapper JSON = ApiClient.createDefaultObjectMapper();
    private static final HttpClient HTTP = HttpClient.newHttpClient();
    private static final ApiClient CLIENT = signedIn(PASSWORD);
    private static final FunctionsApi FUNCTIONS = new FunctionsApi(CLIENT);
    private static final SecretsApi SECRETS = new SecretsApi(CLIENT);
    private static final NamespacesApi NAMESPACES = new NamespacesApi(CLIENT);

    private interface Step {
        void run() throws Exception;
    }

    private static ApiClient connected() {
        ApiClient client = new ApiClient();
        client.updateBaseUri(URL);
        return client;
    }

    private static ApiClient signedIn(String password) {
        return connected().setRequestInterceptor(request -> request.header("Authorization", basic(password)));
    }

    private static String basic(String password) {
        return "Basic " + Base64.getEncoder().encodeToString((USER + ":" + password).getBytes(StandardCharsets.UTF_8));
    }

    private static void expect(String what, Object found, Object expected) {
        if (!Objects.equals(found, expected)) {
            throw new AssertionError(what + ": expected " + expected + ", found " + found);
        }
    }

    private static <T> void eventually(String what, Callable<T> look, T expected) throws Exception {
        long until = System.nanoTime() + Duration.ofSeconds(20).toNanos();
        T found = look.call();
        while (!Objects.equals(found, expected) && System.nanoTime() < until) {
            Thread.sleep(50);
            found = look.call();
        }
        expect(what, found, expected);
    }

    /** What is thrown for a status that is not 2xx. */
    private static ApiException failure(Callable<?> call) throws Exception {
        try {
            Object found = call.call();
            throw new AssertionError("expected an error, found " + found);
        } catch (ApiException error) {
            return error;
        }
    }

    private static Problem problem(ApiException error) throws Exception {
        return JSON.readValue(error.getResponseBody(), Problem.class);
    }

    private static FunctionStatus status() throws ApiException {
        return FUNCTIONS.getFunction(NAME, null, null);
    }

    private static int statusCode() throws ApiException {
        try {
            return FUNCTIONS.getFunctionWithHttpInfo(NAME, null, null).getStatusCode();
        } catch (ApiException error) {
            return error.getCode();
        }
    }

    private static HttpResponse<String> post(String path, String body) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(URL + path))
                .header("Content-Type", "text/plain")
                .POST(HttpRequest.BodyPublishers.ofString(body))
                .build();
        return HTTP.send(request, HttpResponse.BodyHandlers.ofString());
    }

    private static void refused(ApiClient client) throws Exception {
        ApiException error = failure(() -> new FunctionsApi(client).listFunctions(null));
        expect("status", error.getCode(), 401);
        Problem problem = problem(error);
        List<?> found = List.of(problem.getStatus(), problem.getComponent(), problem.getDetail());
        expect("problem", found, List.of(401, "gateway", "invalid credentials"));
    }

    private static void deploy() throws Exception {
        FunctionDeployment body = new FunctionDeployment()
                .service(NAME)
                .image("local")
                .envProcess("cat")
                .labels(Map.of("scenario", "yes"));
        expect("status", FUNCTIONS.deployFunctionWithHttpInfo(body).getStatusCode(), 202);
        List<List<String>> found = FUNCTIONS.listFunctions(null).stream()
                .map(one -> List.of(one.getName(), one.getEnvProcess(), one.getLabels().get("scenario")))
                .toList();
        expect("functions", found, List.of(List.of(NAME, "cat", "yes")));
    }

    private static void invoke() throws Exception {
        HttpResponse<String> answer = post("/function/" + NAME, "héllo\n");
        expect("status", answer.statusCode(), 200);
        expect("body", answer.body(), "héllo\n");
    }

    private static void errorsOfCalls() throws Exception {
        FunctionDeployment body = new FunctionDeployment()
                .service("picky")
                .image("local")
                .envProcess(System.getenv("PICKY"))
                .envVars(Map.of("mode", "http"));
        expect("status", FUNCTIONS.deployFunctionWithHttpInfo(body).getStatusCode(), 202);
        eventually("replicas", () -> FUNCTIONS.getFunction("picky", null, null).getAvailableReplicas(), 1L);
        InvokeApi calls = new InvokeApi(CLIENT);
        // The function's own: bytes.
        ApiException own = failure(() -> calls.invokePathGet("picky", "404"));
        expect("own", List.of(own.getCode(), own.getResponseBody(), isOfGateway(own)), List.of(404, "[1]", false));
        DeleteFunctionRequest gone = new DeleteFunctionRequest().functionName("picky");
        expect("status", FUNCTIONS.deleteFunctionWithHttpInfo(gone, null).getStatusCode(), 202);
        // The gateway's, with its header.
        ApiException error = failure(() -> calls.invokeGet("nobody"));
        expect("problem", List.of(isOfGateway(error), problem(error).getStatus()), List.of(true, 404));
    }

    private static boolean isOfGateway(ApiException error) {
        return error.getResponseHeaders().firstValue("X-OpenFaaS-Internal").isPresent();
    }

    private static void scale() throws Exception {
        ScaleServiceRequest body = new ScaleServiceRequest().serviceName(NAME).replicas(2L);
        expect("status", FUNCTIONS.scaleFunctionWithHttpInfo(NAME, body, null).getStatusCode(), 202);
        eventually("available replicas", () -> status().getAvailableReplicas(), 2L);
        expect("replicas", status().getReplicas(), 2L);
    }

    private static void logs() throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(URL + "/system/logs?follow=true&name=" + NAME))
                .header("Authorization", basic(PASSWORD))
                .build();
        HttpResponse<java.util.stream.Stream<String>> answer = HTTP.send(request, HttpResponse.BodyHandlers.ofLines());
        expect("status", answer.statusCode(), 200);
        // Followed, and left after its first entry.
        try (var lines = answer.body()) {
            LogMessage entry = JSON.readValue(lines.iterator().next(), LogMessage.class);
            expect("entry", List.of(entry.getName(), entry.getText()), List.of(NAME, "Forking fprocess."));
            Duration age = Duration.between(entry.getTimestamp(), OffsetDateTime.now()).abs();
            expect("recent", age.compareTo(Duration.ofMinutes(2)) < 0, true);
        }
    }

    private static List<String> secretNames() throws ApiException {
        return SECRETS.listSecrets(null).stream().map(Secret::getName).toList();
    }

    private static void secrets() throws Exception {
        Secret secret = new Secret().name("token").value("one");
        expect("created", SECRETS.createSecretWithHttpInfo(secret, null).getStatusCode(), 201);
        expect("names", secretNames(), List.of("token"));
        secret = new Secret().name("token").rawValue("two".getBytes(StandardCharsets.UTF_8));
        expect("updated", SECRETS.updateSecretWithHttpInfo(secret, null).getStatusCode(), 202);
        expect("deleted", SECRETS.deleteSecretWithHttpInfo(new Secret().name("token"), null).getStatusCode(), 202);
        expect("names", secretNames(), List.of());
    }

    private static void namespaces() throws Exception {
        FunctionNamespace team = new FunctionNamespace().name("team");
        expect("created", NAMESPACES.createNamedNamespaceWithHttpInfo("team", team).getStatusCode(), 201);
        FunctionNamespace labelled = new FunctionNamespace().name("team").labels(Map.of("a", "b"));
        expect("updated", NAMESPACES.updateNamespaceWithHttpInfo("team", labelled).getStatusCode(), 202);
        expect("labels", NAMESPACES.getNamespace("team").getLabels(), Map.of("a", "b"));
        expect("listed", NAMESPACES.listNamespaces().contains("team"), true);
        expect("deleted", NAMESPACES.deleteNamespaceWithHttpInfo("team", team).getStatusCode(), 202);
        expect("gone", failure(() -> NAMESPACES.getNamespace("team")).getCode(), 404);
    }

    private static void asynchronousCall() throws Exception {
        HttpResponse<String> answer = post("/async-function/" + NAME, "later");
        expect("status", answer.statusCode(), 202);
        String id = answer.headers().firstValue("X-Call-Id").orElseThrow();
        AsyncApi calls = new AsyncApi(CLIENT);
        eventually("state", () -> calls.getAsyncCall(id).getState(), "succeeded");
        var result = calls.getAsyncCall(id).getResult();
        expect("result", List.of(result.getStatus(), result.getBody()), List.of(200, "later"));
    }

    private static void configStatus() throws Exception {
        var found = new ConfigurationApi(CLIENT).getConfigStatus();
        List<?> status = List.of(found.getGeneration(), found.getLastAttempt().getResult(), found.getPendingRestart());
        expect("status", status, List.of(1L, "applied", List.of()));
    }

    private static void delete() throws Exception {
        ApiResponse<Void> answer =
                FUNCTIONS.deleteFunctionWithHttpInfo(new DeleteFunctionRequest().functionName(NAME), null);
        expect("status", answer.getStatusCode(), 202);
        eventually("status of the function", Scenario::statusCode, 404);
        Problem problem = problem(failure(Scenario::status));
        expect("problem", List.of(problem.getStatus(), problem.getTitle()), List.of(404, "Not Found"));
    }

    public static void main(String[] arguments) {
        Map<String, Step> steps = new LinkedHashMap<>();
        steps.put("refused without credentials", () -> refused(connected()));
        steps.put("refused with wrong credentials", () -> refused(signedIn("wrong")));
        steps.put("deploy", Scenario::deploy);
        steps.put("ready", () -> eventually("available replicas", () -> status().getAvailableReplicas(), 1L));
        steps.put("invoke", Scenario::invoke);
        steps.put("errors of calls", Scenario::errorsOfCalls);
        steps.put("scale", Scenario::scale);
        steps.put("logs", Scenario::logs);
        steps.put("secrets", Scenario::secrets);
        steps.put("namespaces", Scenario::namespaces);
        steps.put("asynchronous call", Scenario::asynchronousCall);
        steps.put("config status", Scenario::configStatus);
        steps.put("delete", Scenario::delete);
        steps.forEach((name, step) -> {
            try {
                step.run();
            } catch (Exception | AssertionError failure) {
                System.out.println("FAILED " + name + ": " + failure);
                System.exit(1);
            }
            System.out.println("ok " + name);
        });
        // Threads of HTTP clients must not keep it alive.
        System.exit(0);
    }
}
