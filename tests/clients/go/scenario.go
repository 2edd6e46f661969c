// What a user of the generated client does, from the first refusal to the last 404.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"scenario/gateway"
)

const name = "scenario"

var (
	url      = os.Getenv("GATEWAY_URL")
	user     = os.Getenv("GATEWAY_USER")
	password = os.Getenv("GATEWAY_PASSWORD")
	ctx      = context.Background()
	client   = signedIn(user, password)
)

func signedIn(user, password string) *gateway.ClientWithResponses {
	return connected(func(request *http.Request) { request.SetBasicAuth(user, password) })
}

// The client says nothing of what it accepts, and who says nothing gets errors as text.
func connected(edit func(*http.Request)) *gateway.ClientWithResponses {
	editor := func(_ context.Context, request *http.Request) error {
		request.Header.Set("Accept", "*/*")
		edit(request)
		return nil
	}
	return must(gateway.NewClientWithResponses(url, gateway.WithRequestEditorFn(editor)))
}

// must ends the step with an error where there is one.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func expect(what string, found, expected any) {
	if !reflect.DeepEqual(found, expected) {
		panic(fmt.Sprintf("%s: expected %#v, found %#v", what, expected, found))
	}
}

func eventually[T comparable](what string, look func() T, expected T) {
	found := look()
	for until := time.Now().Add(20 * time.Second); found != expected && time.Now().Before(until); found = look() {
		time.Sleep(50 * time.Millisecond)
	}
	expect(what, found, expected)
}

func pointer[T any](value T) *T { return &value }

func status() gateway.FunctionStatus {
	answer := must(client.GetFunctionWithResponse(ctx, name, nil))
	expect("status", answer.StatusCode(), 200)
	return *answer.JSON200
}

func available() int64 { return *status().AvailableReplicas }

func refused(client *gateway.ClientWithResponses) {
	answer := must(client.ListFunctionsWithResponse(ctx, nil))
	expect("status", answer.StatusCode(), 401)
	problem := answer.ApplicationproblemJSON401
	expect("problem", []any{problem.Status, problem.Component, problem.Detail}, []any{int32(401), "gateway", "invalid credentials"})
}

func deploy() {
	answer := must(client.DeployFunctionWithResponse(ctx, gateway.FunctionDeployment{
		Service:    name,
		Image:      pointer("local"),
		EnvProcess: pointer("cat"),
		Labels:     &map[string]string{"scenario": "yes"},
	}))
	expect("status", answer.StatusCode(), 202)
	functions := *must(client.ListFunctionsWithResponse(ctx, nil)).JSON200
	expect("functions", len(functions), 1)
	found := []string{functions[0].Name, *functions[0].EnvProcess, (*functions[0].Labels)["scenario"]}
	expect("function", found, []string{name, "cat", "yes"})
}

func invoke() {
	answer := must(client.InvokePostWithBodyWithResponse(ctx, name, "text/plain", strings.NewReader("héllo\n")))
	expect("status", answer.StatusCode(), 200)
	expect("body", string(answer.Body), "héllo\n")
}

func errorsOfCalls() {
	answer := must(client.DeployFunctionWithResponse(ctx, gateway.FunctionDeployment{
		Service:    "picky",
		Image:      pointer("local"),
		EnvProcess: pointer(os.Getenv("PICKY")),
		EnvVars:    &map[string]string{"mode": "http"},
	}))
	expect("status", answer.StatusCode(), 202)
	eventually("available replicas", func() int64 {
		return *must(client.GetFunctionWithResponse(ctx, "picky", nil)).JSON200.AvailableReplicas
	}, 1)
	// The function's own: bytes. What reads them as a problem is not asked.
	own := must(client.ClientInterface.InvokePathGet(ctx, "picky", "404"))
	defer own.Body.Close()
	body := must(io.ReadAll(own.Body))
	expect("own", []any{own.StatusCode, string(body), own.Header.Get("X-OpenFaaS-Internal")}, []any{404, "[1]", ""})
	gone := gateway.DeleteFunctionRequest{FunctionName: "picky"}
	expect("status", must(client.DeleteFunctionWithResponse(ctx, nil, gone)).StatusCode(), 202)
	// The gateway's, with its header.
	nobody := must(client.InvokeGetWithResponse(ctx, "nobody"))
	mark := nobody.HTTPResponse.Header.Get("X-OpenFaaS-Internal")
	expect("problem", []any{mark, nobody.ApplicationproblemJSON404.Status}, []any{"gateway", int32(404)})
}

func scale() {
	body := gateway.ScaleServiceRequest{ServiceName: pointer(name), Replicas: 2}
	expect("status", must(client.ScaleFunctionWithResponse(ctx, name, nil, body)).StatusCode(), 202)
	eventually("available replicas", available, 2)
	expect("replicas", *status().Replicas, int64(2))
}

// A stream: followed, and left after its first entry. The client without responses
// leaves the body to be read.
func logs() {
	ctx, leave := context.WithTimeout(ctx, 20*time.Second)
	defer leave()
	answer := must(client.ClientInterface.GetLogs(ctx, &gateway.GetLogsParams{Name: name, Follow: pointer(true)}))
	defer answer.Body.Close()
	expect("status", answer.StatusCode, 200)
	line := must(bufio.NewReader(answer.Body).ReadBytes('\n'))
	var entry gateway.LogMessage
	if err := json.Unmarshal(line, &entry); err != nil {
		panic(err)
	}
	expect("entry", []string{entry.Name, entry.Text}, []string{name, "Forking fprocess."})
	expect("recent", time.Since(entry.Timestamp).Abs() < 2*time.Minute, true)
}

func secretNames() []string {
	names := []string{}
	for _, secret := range *must(client.ListSecretsWithResponse(ctx, nil)).JSON200 {
		names = append(names, secret.Name)
	}
	return names
}

func secrets() {
	secret := gateway.Secret{Name: "token", Value: pointer("one")}
	expect("created", must(client.CreateSecretWithResponse(ctx, nil, secret)).StatusCode(), 201)
	expect("names", secretNames(), []string{"token"})
	secret = gateway.Secret{Name: "token", RawValue: pointer([]byte("two"))}
	expect("updated", must(client.UpdateSecretWithResponse(ctx, nil, secret)).StatusCode(), 202)
	expect("deleted", must(client.DeleteSecretWithResponse(ctx, nil, gateway.Secret{Name: "token"})).StatusCode(), 202)
	expect("names", secretNames(), []string{})
}

func namespaces() {
	team := gateway.FunctionNamespace{Name: pointer("team")}
	expect("created", must(client.CreateNamedNamespaceWithResponse(ctx, "team", team)).StatusCode(), 201)
	labels := map[string]string{"a": "b"}
	labelled := gateway.FunctionNamespace{Name: pointer("team"), Labels: &labels}
	expect("updated", must(client.UpdateNamespaceWithResponse(ctx, "team", labelled)).StatusCode(), 202)
	expect("labels", *must(client.GetNamespaceWithResponse(ctx, "team")).JSON200.Labels, labels)
	names := *must(client.ListNamespacesWithResponse(ctx)).JSON200
	expect("listed", slices.Contains(names, "team"), true)
	expect("deleted", must(client.DeleteNamespaceWithResponse(ctx, "team", team)).StatusCode(), 202)
	expect("gone", must(client.GetNamespaceWithResponse(ctx, "team")).StatusCode(), 404)
}

func asynchronousCall() {
	answer := must(client.InvokeAsyncWithBodyWithResponse(ctx, name, "text/plain", strings.NewReader("later")))
	expect("status", answer.StatusCode(), 202)
	id := answer.HTTPResponse.Header.Get("X-Call-Id")
	call := func() gateway.AsyncCall {
		answer := must(client.GetAsyncCallWithResponse(ctx, id))
		expect("status", answer.StatusCode(), 200)
		return *answer.JSON200
	}
	eventually("state", func() string { return call().State }, "succeeded")
	result := call().Result
	expect("result", []any{result.Status, *result.Body}, []any{int32(200), "later"})
}

func configStatus() {
	found := must(client.GetConfigStatusWithResponse(ctx)).JSON200
	expect("status", []any{found.Generation, found.LastAttempt.Result, len(found.PendingRestart)}, []any{int64(1), "applied", 0})
}

func remove() {
	body := gateway.DeleteFunctionRequest{FunctionName: name}
	expect("status", must(client.DeleteFunctionWithResponse(ctx, nil, body)).StatusCode(), 202)
	look := func() int { return must(client.GetFunctionWithResponse(ctx, name, nil)).StatusCode() }
	eventually("status of the function", look, 404)
	problem := must(client.GetFunctionWithResponse(ctx, name, nil)).ApplicationproblemJSON404
	expect("problem", []any{problem.Status, problem.Title}, []any{int32(404), "Not Found"})
}

func main() {
	steps := []struct {
		name string
		run  func()
	}{
		{"refused without credentials", func() { refused(connected(func(*http.Request) {})) }},
		{"refused with wrong credentials", func() { refused(signedIn(user, "wrong")) }},
		{"deploy", deploy},
		{"ready", func() { eventually("available replicas", available, 1) }},
		{"invoke", invoke},
		{"errors of calls", errorsOfCalls},
		{"scale", scale},
		{"logs", logs},
		{"secrets", secrets},
		{"namespaces", namespaces},
		{"asynchronous call", asynchronousCall},
		{"config status", configStatus},
		{"delete", remove},
	}
	for _, step := range steps {
		func() {
			defer func() {
				if failure := recover(); failure != nil {
					fmt.Printf("FAILED %s: %v\n", step.name, failure)
					os.Exit(1)
				}
			}()
			step.run()
		}()
		fmt.Printf("ok %s\n", step.name)
	}
}
