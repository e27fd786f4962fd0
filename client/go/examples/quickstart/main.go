// Quickstart runs a query on a server at localhost:50051 and prints its progress.
package main

import (
	"context"
	"fmt"
	"log"

	stepwire "github.com/stepwire/stepwire/client/go"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	client, err := stepwire.New("localhost:50051")
	if err != nil {
		return err
	}
	defer client.Close()

	run, err := client.Execute(ctx, stepwire.Query("Bauantrag für Einfamilienhaus in Stuttgart"))
	if err != nil {
		return err
	}
	defer run.Close()
	for event, err := range run.Events() {
		if err != nil {
			return err
		}
		fmt.Printf("%3.0f %%  %s\n", event.GetProgress().GetPercentage(), event.GetMessage())
	}

	output, err := run.Result()
	if err != nil {
		return err
	}
	fmt.Println(output.GetStructValue().GetFields()["title"].GetStringValue())
	return nil
}
