// Package stepwire is a client of Stepwire: it starts executions, follows their events as they happen, and goes on
// where it was when a connection is lost.
//
//	client, err := stepwire.New("localhost:50051")
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//
//	run, err := client.Execute(ctx, stepwire.Query("Bauantrag für Einfamilienhaus in Stuttgart"))
//	if err != nil {
//		return err
//	}
//	defer run.Close()
//	for event, err := range run.Events() {
//		if err != nil {
//			return err
//		}
//		fmt.Printf("%3.0f %%  %s\n", event.GetProgress().GetPercentage(), event.GetMessage())
//	}
//	output, err := run.Result()
//
// A [Run] gives each event once and in order, over as many connections as it takes. Its [Run.Cursor] is where another
// process can go on, with [Client.Watch] and [After].
//
// Messages are those of the contract, in package stepwirev1. Every other rpc is there through [Client.Service].
package stepwire
