// Quickstart runs a query on a server at localhost:50051 and prints its progress.
package main

import (
	"context"
	"fmt"
	"log"

	stepwire "github.com/stepwire/stepwire/client/go"
)

func main() {
	client, err := stepwire.New("localhost:50051")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	run, err := client.Execute(context.Background(), stepwire.Query("Bauantrag für Einfamilienhaus in Stuttgart"))
	if err != nil {
		log.Fatal(err)
	}
	for event, err := range run.Events() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%3.0f %%  %s\n", event.GetProgress().GetPercentage(), event.GetMessage())
	}

	output, err := run.Result()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(output.AsInterface())
}
