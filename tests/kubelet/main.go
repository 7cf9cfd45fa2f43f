// SPDX-License-Identifier: Apache-2.0

// A kubelet of Go, made of the real one's own parts: its protocol package and grpc-go. It serves
// registration and PodResources in DIR, dials the plugin that registers, reads its devices, and calls
// Allocate and PreStartContainer 200 times each at once.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	plugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	pods "k8s.io/kubelet/pkg/apis/podresources/v1"
)

const calls = 200

type kubelet struct {
	plugin.UnimplementedRegistrationServer
	pods.UnimplementedPodResourcesListerServer
	dir     string
	devices chan []*plugin.Device
	client  plugin.DevicePluginClient
	once    sync.Once
}

func must(err error) {
	if err != nil {
		fmt.Println("kubelet:", err)
		os.Exit(1)
	}
}

// As the kubelet: it dials back before it answers.
func (k *kubelet) Register(ctx context.Context, r *plugin.RegisterRequest) (*plugin.Empty, error) {
	if r.Version != plugin.Version || r.ResourceName != "nvidia.com/gpu" || !r.Options.PreStartRequired {
		return nil, fmt.Errorf("unexpected registration: %v", r)
	}
	k.once.Do(func() { k.dial(filepath.Join(k.dir, r.Endpoint)) })
	return &plugin.Empty{}, nil
}

func (k *kubelet) dial(socket string) {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(err)
	k.client = plugin.NewDevicePluginClient(conn)
	options, err := k.client.GetDevicePluginOptions(context.Background(), &plugin.Empty{})
	must(err)
	if !options.PreStartRequired {
		must(fmt.Errorf("options: %v", options))
	}
	stream, err := k.client.ListAndWatch(context.Background(), &plugin.Empty{})
	must(err)
	go func() {
		for {
			list, err := stream.Recv()
			if err != nil {
				return
			}
			k.devices <- list.Devices
		}
	}()
}

func (k *kubelet) List(context.Context, *pods.ListPodResourcesRequest) (*pods.ListPodResourcesResponse, error) {
	return &pods.ListPodResourcesResponse{PodResources: []*pods.PodResources{{Name: "train", Namespace: "default",
		Containers: []*pods.ContainerResources{{Name: "app", Devices: []*pods.ContainerDevices{
			{ResourceName: "nvidia.com/gpu", DeviceIds: []string{"GPU-0-0"}}}}}}}}, nil
}

func (k *kubelet) timed(call func(id []string) error) []time.Duration {
	took := make([]time.Duration, calls)
	var group sync.WaitGroup
	for i := range took {
		group.Add(1)
		go func() {
			defer group.Done()
			start := time.Now()
			must(call([]string{fmt.Sprintf("GPU-0-%d", i)}))
			took[i] = time.Since(start)
		}()
	}
	group.Wait()
	sort.Slice(took, func(a, b int) bool { return took[a] < took[b] })
	return took
}

func report(name string, took []time.Duration) {
	fmt.Printf("grpc-go: %s: p50 %.1f ms, p99 %.1f ms\n", name, float64(took[calls/2].Microseconds())/1000,
		float64(took[calls*99/100].Microseconds())/1000)
}

func serve(socket string, register func(*grpc.Server)) *grpc.Server {
	listener, err := net.Listen("unix", socket)
	must(err)
	server := grpc.NewServer()
	register(server)
	go server.Serve(listener)
	return server
}

func main() {
	k := &kubelet{dir: os.Args[1], devices: make(chan []*plugin.Device, 16)}
	lister := serve(os.Args[1]+".pods", func(s *grpc.Server) { pods.RegisterPodResourcesListerServer(s, k) })
	server := serve(filepath.Join(k.dir, "kubelet.sock"), func(s *grpc.Server) { plugin.RegisterRegistrationServer(s, k) })
	devices := <-k.devices
	if len(devices) != calls || devices[0].Health != plugin.Healthy {
		must(fmt.Errorf("%d devices", len(devices)))
	}
	time.Sleep(time.Second) // the agent looks at itself meanwhile
	_, err := k.client.PreStartContainer(context.Background(), &plugin.PreStartContainerRequest{DevicesIds: []string{"x"}})
	if err == nil {
		must(fmt.Errorf("an id never offered was taken"))
	}
	fmt.Println("grpc-go: refused:", err)
	report("Allocate", k.timed(func(id []string) error {
		_, err := k.client.Allocate(context.Background(), &plugin.AllocateRequest{
			ContainerRequests: []*plugin.ContainerAllocateRequest{{DevicesIds: id}}})
		return err
	}))
	report("PreStartContainer", k.timed(func(id []string) error {
		_, err := k.client.PreStartContainer(context.Background(), &plugin.PreStartContainerRequest{DevicesIds: id})
		return err
	}))
	server.Stop()
	lister.Stop()
}
