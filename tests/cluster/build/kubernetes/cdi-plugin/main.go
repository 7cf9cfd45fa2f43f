// SPDX-License-Identifier: Apache-2.0

// cdi-plugin RESOURCE DEVICE...: a device plugin that gives the kubelet each DEVICE (vendor/class=name)
// as one of RESOURCE and answers Allocate with the names of the chosen ones. What stands behind the names
// is a CDI file of the test's. It registers again when the kubelet was restarted.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const socket = "cdi-plugin.sock"

type plugin struct {
	api.UnimplementedDevicePluginServer
	devices []string
}

func (p *plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

func (p *plugin) ListAndWatch(_ *api.Empty, stream api.DevicePlugin_ListAndWatchServer) error {
	list := &api.ListAndWatchResponse{}
	for i := range p.devices {
		list.Devices = append(list.Devices, &api.Device{ID: fmt.Sprint(i), Health: api.Healthy})
	}
	if err := stream.Send(list); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (p *plugin) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	response := &api.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		answer := &api.ContainerAllocateResponse{}
		for _, id := range container.DevicesIds {
			var i int
			if _, err := fmt.Sscan(id, &i); err != nil || i < 0 || i >= len(p.devices) {
				return nil, fmt.Errorf("%q is not an id of this plugin", id)
			}
			answer.CdiDevices = append(answer.CdiDevices, &api.CDIDevice{Name: p.devices[i]})
		}
		response.ContainerResponses = append(response.ContainerResponses, answer)
	}
	return response, nil
}

func register(resource string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	connection, err := grpc.NewClient("unix://"+api.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = api.NewRegistrationClient(connection).Register(ctx, &api.RegisterRequest{
		Version: api.Version, Endpoint: socket, ResourceName: resource})
	return err
}

// serve registers and returns when the kubelet has removed the socket, as it does when it starts.
func serve(p *plugin, resource string) error {
	path := filepath.Join(api.DevicePluginPath, socket)
	os.Remove(path)
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	defer server.Stop()
	api.RegisterDevicePluginServer(server, p)
	go server.Serve(listener)
	if err := register(resource); err != nil {
		return err
	}
	for {
		time.Sleep(200 * time.Millisecond)
		if _, err := os.Stat(path); err != nil {
			return nil
		}
	}
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: cdi-plugin RESOURCE DEVICE...")
		os.Exit(2)
	}
	for {
		if err := serve(&plugin{devices: os.Args[2:]}, os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, "cdi-plugin:", err)
			time.Sleep(500 * time.Millisecond)
		}
	}
}
